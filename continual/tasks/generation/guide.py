"""What may be written next of a rewrite, so that the whole of it says what the approved reply says.

The approved reply's words stay in their order. Before it, and behind it, a courtesy may stand; words may be
contracted, or give way to equal ones; `please` may stand before what somebody is asked to do. A decoder chooses.
"""

import re
from collections.abc import Iterator
from functools import lru_cache

from perennial.continual.tasks.generation.guard import check_rewrite
from perennial.continual.tasks.generation.meaning import greeted

__all__ = ["Guide", "guide_for"]

_HAN = re.compile("[\u3400-\u9fff]")
_SENTENCE_END = re.compile(r"[.!?]['\")]?$")
_OPENINGS = (
    "Thank you for contacting us.", "Thank you for reaching out to us.", "Thank you for your message.",
    "Thank you for your patience.", "Thank you for your question.", "We are sorry for the inconvenience.",
    "We apologize for any inconvenience.", "Thanks for reaching out!", "Thanks for your message!",
    "I'm happy to help!", "We understand your concern.", "We appreciate your patience.",
)  # fmt: skip
_CLOSINGS = (
    "Thank you for your patience.", "Thank you for your understanding.", "Have a great day!", "Have a nice day.",
    "Let us know if you have any questions.", "Please let us know if you have any other questions.",
    "If you have any questions, please let us know.", "Please feel free to contact us if you have any questions.",
    "Best regards,", "Kind regards,", "I hope this helps!",
)  # fmt: skip
_HAN_OPENINGS = ("您好，", "感谢您的咨询。", "感谢您的耐心。", "非常抱歉给您带来不便。")
_HAN_CLOSINGS = ("谢谢您！", "祝您生活愉快！", "如有任何问题，请随时联系我们。", "感谢您的理解。")
_ASKED_FOR = frozenset({
    "ask", "bring", "call", "check", "choose", "click", "confirm", "contact", "enter", "follow", "go", "keep", "log",
    "note", "open", "provide", "reset", "select", "send", "sign", "try", "update", "use", "visit", "wait", "write",
})  # fmt: skip
_SHORTER = {
    ("do", "not"): "don't", ("does", "not"): "doesn't", ("is", "not"): "isn't", ("are", "not"): "aren't",
    ("will", "not"): "won't", ("must", "not"): "mustn't", ("has", "not"): "hasn't", ("have", "not"): "haven't",
    ("we", "are"): "we're", ("we", "will"): "we'll", ("we", "have"): "we've", ("you", "are"): "you're",
    ("you", "will"): "you'll", ("it", "is"): "it's", ("it", "will"): "it'll", ("cannot", ""): "can't",
}  # fmt: skip
_OTHER = {"purchase": "buy", "buy": "purchase", "receive": "get", "choose": "select", "assist": "help"}

_Node = tuple[int, int]  # words of the approved reply that are written, and how far the courtesies are: 0 to 3
_START, _GREETED, _OPENED, _CLOSED = range(4)


class Guide:
    """The rewrites of one reply.

    >>> guide = Guide("You cannot pay by card.", name="Jo")
    >>> guide.fits("Hi Jo, you can't pay by"), guide.fits("Hi Jo, you can pay")
    (True, False)
    """

    def __init__(self, approved: str, *, name: str = "", tone: str = "") -> None:
        self._approved, self._name = approved.strip(), name.strip() if greeted(name) else ""
        self._formal = "formal" in tone.casefold() and "informal" not in tone.casefold()
        self._han = bool(_HAN.search(approved))
        self._words = [(found[1], found[2]) for found in re.finditer(r"(\s*)(\S+)", self._approved)]

    def fits(self, text: str) -> bool:
        """Whether the text can go on to be a rewrite."""
        return bool(self._states(text))

    def done(self, text: str) -> bool:
        """Whether the text is a rewrite, and lets nothing be changed."""
        ends = any(node[0] == len(self._words) and not left for node, left in self._states(text))
        return ends and check_rewrite(self._approved, text, name=self._name).let_through

    def only(self, text: str) -> str:
        """What follows where nothing else can, as far as that goes; empty where there is a choice, or the end."""
        states = self._states(text)
        if len(states) != 1:
            return ""
        node, onward = states[0]
        while node[0] < len(self._words):
            pieces = list(self._pieces(node))
            if len(pieces) > 1:
                break
            onward, node = onward + pieces[0][0], pieces[0][1]
        return onward

    def onward(self, text: str) -> str:
        """The rest of a begun piece, or the next piece by the approved reply's own words; empty where it is done."""
        states = self._states(text)
        if not states:
            return ""
        node, left = max(states, key=lambda state: state[0])
        if left or node[0] == len(self._words):
            return left
        return next(piece for piece, _ in self._pieces(node))

    @lru_cache(maxsize=512)  # noqa: B019  # a guide lives as long as one reply is written
    def _states(self, text: str) -> tuple[tuple[_Node, str], ...]:
        """Where the text can have come to: a node each, and what is left of the piece that leads there."""
        states, waiting, seen = dict[tuple[_Node, str], None](), [((0, _START), 0)], set[tuple[_Node, int]]()
        while waiting:
            node, place = waiting.pop()
            if (node, place) in seen:
                continue
            seen.add((node, place))
            rest = text[place:]
            if not rest:
                states[node, ""] = None
                continue
            for piece, after in self._pieces(node):
                if rest.startswith(piece):
                    waiting.append((after, place + len(piece)))
                elif piece.startswith(rest):
                    states[after, piece[len(rest) :]] = None
        return tuple(states)

    def _pieces(self, node: _Node) -> Iterator[tuple[str, _Node]]:
        """What may stand next, and where one is then."""
        count, stage = node
        if count == len(self._words):
            if stage != _CLOSED:
                for closing in _HAN_CLOSINGS if self._han else _CLOSINGS:
                    yield (closing if self._han else f" {closing}"), (count, _CLOSED)
            return
        if count == 0 and stage == _START and self._name:
            for greeting in self._greetings():
                yield greeting, (0, _GREETED)
            return
        yield from self._next_words(count, stage)
        if count == 0 and stage != _OPENED:
            for opening in _HAN_OPENINGS if self._han else _OPENINGS:
                yield (opening if self._han else f"{opening} "), (0, _OPENED)

    def _greetings(self) -> tuple[str, ...]:
        if self._han:
            return (f"{self._name}，您好，", f"您好，{self._name}，", f"{self._name}，")
        words = ("Dear", "Hello") if self._formal else ("Hi", "Hello", "Dear", "Hey")
        return tuple(f"{word} {self._name}{mark} " for word in words for mark in ",!")

    def _next_words(self, count: int, stage: int) -> Iterator[tuple[str, _Node]]:
        before, word = self._words[count]
        begins = count == 0 or bool(_SENTENCE_END.search(self._words[count - 1][1]))
        lead = before if count else ""
        after = (count + 1, max(stage, _OPENED))
        yield lead + word, after
        bare = word.rstrip(".,;:!?")
        mark, folded = word[len(bare) :], bare.casefold()
        if count == 0 and stage == _GREETED and word[:1].isupper() and folded in {"you", "we", "your", "the", "it"}:
            yield lead + word[0].lower() + word[1:], after
        if begins and folded in _ASKED_FOR:
            yield f"{lead}Please {word[0].lower()}{word[1:]}", after
        if (other := _OTHER.get(folded)) is not None:
            yield lead + _as_written(other, bare) + mark, after
        if self._formal:
            return
        if folded == "cannot":
            yield lead + _as_written("can't", bare) + mark, after
        if not mark and count + 1 < len(self._words):
            following = self._words[count + 1][1]
            tail = following.rstrip(".,;:!?")
            if (short := _SHORTER.get((folded, tail.casefold()))) is not None:
                yield lead + _as_written(short, bare) + following[len(tail) :], (count + 2, max(stage, _OPENED))


def _as_written(word: str, like: str) -> str:
    return word[0].upper() + word[1:] if like[:1].isupper() else word


@lru_cache(maxsize=64)
def guide_for(approved: str, name: str, tone: str) -> Guide:
    """The guide of a reply that is written in several calls."""
    return Guide(approved, name=name, tone=tone)
