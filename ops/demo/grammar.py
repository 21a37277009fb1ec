"""Customer-service requests of an electronics shop, generated: products, wording and intents change over time.

Intents share their vocabulary on purpose ("charged after I cancelled" against "cancel what I was charged for"), each
sentence is built from interchangeable phrases, and the second era says the same things in other words. So the words
alone do not decide, and words that were never seen still have to be understood.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from perennial.continual.errors import DataError
from perennial.ops.demo.phrases import ENDINGS, INTENTS, OPENINGS, SLOTS

__all__ = ["FIRST_INTENTS", "WAVES", "Era", "GeneratedRequest", "Phrasing", "RequestGrammar"]

_SLOT = re.compile(r"\{(\w+)\}")
FIRST_INTENTS: tuple[str, ...] = tuple(name for name, phrases in INTENTS.items() if phrases.wave == 0)
WAVES: tuple[tuple[str, ...], ...] = tuple(
    tuple(name for name, phrases in INTENTS.items() if phrases.wave == wave) for wave in (1, 2, 3)
)


class Era(StrEnum):
    """How customers talk."""

    FORMAL = "formal"
    CHATTY = "chatty"


class Phrasing(StrEnum):
    """Which sentences of an intent are drawn: those that customers use, or the one kept back for examination."""

    USED = "used"
    RESERVED = "reserved"


@dataclass(frozen=True, slots=True, kw_only=True)
class GeneratedRequest:
    """One request and the intent behind it."""

    text: str
    intent: str


class RequestGrammar:
    """Draws requests; the same seed draws the same requests.

    >>> grammar = RequestGrammar(seed=1)
    >>> grammar.draw(["order_where"]).intent
    'order_where'
    >>> RequestGrammar(seed=1).draw(["order_where"]) == RequestGrammar(seed=1).draw(["order_where"])
    True
    """

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)

    def draw(
        self, intents: Sequence[str], era: Era = Era.FORMAL, phrasing: Phrasing = Phrasing.USED
    ) -> GeneratedRequest:
        """One request with an intent drawn evenly from `intents`.

        Raises:
            DataError: an intent is not in the grammar.
        """
        intent = str(self._rng.choice(np.asarray(intents)))
        if intent not in INTENTS:
            raise DataError(f"intent {intent!r} is not in the grammar; it knows {', '.join(sorted(INTENTS))}")
        phrases = INTENTS[intent]
        cores = phrases.formal if era is Era.FORMAL else phrases.chatty
        cores = cores[:-1] if phrasing is Phrasing.USED else cores[-1:]
        parts = [self._pick(OPENINGS[era.value]), self._pick(cores), self._pick(ENDINGS[era.value])]
        text = self._fill(" ".join(part for part in parts if part), era)
        return GeneratedRequest(text=self._worn(text, era), intent=intent)

    def draw_many(
        self, intents: Sequence[str], n: int, era: Era = Era.FORMAL, phrasing: Phrasing = Phrasing.USED
    ) -> list[GeneratedRequest]:
        """`n` requests with different texts, as far as the grammar has them."""
        drawn: dict[str, GeneratedRequest] = {}
        for _ in range(20 * n):
            request = self.draw(intents, era, phrasing)
            drawn.setdefault(request.text.casefold(), request)
            if len(drawn) == n:
                break
        return list(drawn.values())

    def _pick(self, choices: Sequence[str]) -> str:
        return choices[int(self._rng.integers(len(choices)))]

    def _fill(self, text: str, era: Era) -> str:
        while match := _SLOT.search(text):
            name = match.group(1)
            choices = SLOTS.get(f"{name}_{era.value}", SLOTS.get(name))
            if choices is None:
                raise DataError(f"slot {{{name}}} is not in the grammar; it knows {', '.join(sorted(SLOTS))}")
            text = text[: match.start()] + self._pick(choices) + text[match.end() :]
        return text

    def _worn(self, text: str, era: Era) -> str:
        """The text as people type it: lower case, missing marks, swapped letters."""
        rate = 0.1 if era is Era.FORMAL else 0.3
        if self._rng.random() < rate:
            text = text.lower()
        elif era is Era.FORMAL:
            text = text[0].upper() + text[1:]
        if self._rng.random() < rate:
            text = text.rstrip("?.!").replace(",", "").replace("'", "")
        if self._rng.random() < rate / 2 and len(text) > 12:
            i = int(self._rng.integers(3, len(text) - 3))
            text = text[:i] + text[i + 1] + text[i] + text[i + 2 :]
        return text
