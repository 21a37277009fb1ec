"""What a question and an approved reply have in common, as a few numbers of which weights make a score."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from perennial.continual.learning.lexical import LexicalFeatures
from perennial.continual.learning.replies.bm25 import Bm25, words_of
from perennial.continual.learning.replies.library import Library

__all__ = ["FEATURES", "Searched", "Surface"]

Floats = NDArray[np.float32]
FEATURES = (
    "asked",  # whether a question is approved for the reply at all
    "question",  # its nearest approved question, by meaning,
    "question_words",  # by words in common,
    "question_letters",  # and by runs of letters
    "question_same",  # whether just this was asked, but for capitals and signs, when the reply was approved
    "refused",  # the nearest question that it was refused for, less where it only did not help
    "answer",  # the own text of a reply that no question is approved for,
    "answer_mapped",  # the same, where answers to such questions usually lie,
    "answer_words",
    "answer_letters",
    "asked_answer",  # and that of a reply with approved questions, which tell more
    "asked_answer_mapped",
    "asked_answer_words",
    "asked_answer_letters",
    "intent",  # log probability of the reply's intent
    "follows",  # how much more usual the reply's intent is after what was answered last
    "habit",  # how much more usual it is with this customer
)
_LETTERS = LexicalFeatures.of_size(1536)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Surface:
    """Words and letters of a library, whatever the encoder; made once a revision."""

    library: Library
    texts: tuple[str, ...]  # all that are compared, each once
    spelt: tuple[tuple[str, ...], ...]  # the words of each
    words: Bm25
    letters: Floats  # (texts, columns)
    said: Mapping[tuple[str, ...], int]  # the words of the texts in their order, each with a number
    said_by: NDArray[np.intp]  # (texts,) the number of each text's; -1 where it has no words
    answers: NDArray[np.intp]  # of each reply, the place of its text
    asked: NDArray[np.intp]  # of each approved question, the place of its text
    owners: NDArray[np.intp]  # and of its reply
    refused: NDArray[np.intp]
    refused_owners: NDArray[np.intp]
    refused_weights: Floats  # above 0

    @classmethod
    def of(cls, library: Library, before: "Surface | None" = None) -> "Surface":
        """The surface of a library's texts, in their order; what that `before` knows of the same texts is taken over.

        A question is approved many times a minute, and whoever asks next waits for this.
        """
        texts = library.texts
        known = {} if before is None else {text: place for place, text in enumerate(before.texts)}
        letters = np.zeros((len(texts), _LETTERS.size), dtype=np.float32)
        spelt: list[tuple[str, ...]] = [()] * len(texts)
        old = [(place, known[text]) for place, text in enumerate(texts) if text in known]
        if before is not None and old:
            here, there = zip(*old, strict=True)
            letters[list(here)] = before.letters[list(there)]
            for place, was in old:
                spelt[place] = before.spelt[was]
        if new := [place for place, text in enumerate(texts) if text not in known]:
            letters[new] = _LETTERS([texts[place] for place in new])
            for place in new:
                spelt[place] = tuple(words_of(texts[place]))
        at = {text: place for place, text in enumerate(texts)}
        reply = {each.id: place for place, each in enumerate(library.replies)}
        good = [question for question in library.questions if question.weight > 0]
        bad = [question for question in library.questions if question.weight < 0]
        said = {words: number for number, words in enumerate(dict.fromkeys(filter(None, spelt)))}
        return cls(
            library=library,
            texts=texts,
            spelt=tuple(spelt),
            words=Bm25.of_words(spelt),
            letters=letters,
            said=said,
            said_by=_places(said.get(words, -1) for words in spelt),
            answers=_places(at[each.bare] for each in library.replies),
            asked=_places(at[question.text] for question in good),
            owners=_places(reply[question.reply] for question in good),
            refused=_places(at[question.text] for question in bad),
            refused_owners=_places(reply[question.reply] for question in bad),
            refused_weights=np.array([-question.weight for question in bad], dtype=np.float32),
        )

    def found(self, texts: Sequence[str]) -> tuple[Floats, Floats, Floats]:
        """Words, letters and the whole in common with every text of the library, each (questions, texts)."""
        own = _places(self.said.get(tuple(words_of(text)), -2) for text in texts)
        same = (own[:, None] == self.said_by[None, :]).astype(np.float32)
        return self.words(texts), _LETTERS(texts).astype(np.float32) @ self.letters.T, same


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Searched:
    """Questions beside each text of a library, (questions, texts): by meaning, mapped, by words, by letters, whole."""

    meaning: Floats
    mapped: Floats
    words: Floats
    letters: Floats
    same: Floats

    def features(
        self,
        surface: Surface,
        *,
        without: NDArray[np.bool_] | None = None,
        without_refused: NDArray[np.bool_] | None = None,
    ) -> Floats:
        """`FEATURES` of every reply (questions, replies, features), of which the last three are left 0.

        `without` says of each question which approved ones (questions, asked) it must be answered without, and
        `without_refused` which refused ones.
        """
        rows, replies = len(self.meaning), len(surface.library.replies)
        made = np.zeros((rows, replies, len(FEATURES)), dtype=np.float32)
        parts = {"question": self.meaning, "question_words": self.words, "question_letters": self.letters}
        parts["question_same"] = self.same
        for name, values in parts.items():
            near = values[:, surface.asked]
            if without is not None:
                near = np.where(without, 0.0, near)
            made[:, :, FEATURES.index(name)] = _highest(near, surface.owners, replies)
        known = np.ones((rows, len(surface.asked)), dtype=np.float32)
        if without is not None:
            known[without] = 0.0
        made[:, :, 0] = _highest(known, surface.owners, replies)
        bad = self.meaning[:, surface.refused] * surface.refused_weights
        if without_refused is not None:
            bad = np.where(without_refused, 0.0, bad)
        made[:, :, FEATURES.index("refused")] = _highest(bad, surface.refused_owners, replies)
        answers = {"answer": self.meaning, "answer_mapped": self.mapped}
        answers |= {"answer_words": self.words, "answer_letters": self.letters}
        for name, values in answers.items():
            own = values[:, surface.answers]
            made[:, :, FEATURES.index(name)] = own * (1.0 - made[:, :, 0])
            made[:, :, FEATURES.index(f"asked_{name}")] = own * made[:, :, 0]
        return made


def _places(values: Iterable[int]) -> NDArray[np.intp]:
    return np.fromiter(values, dtype=np.intp)


def _highest(values: Floats, owners: NDArray[np.intp], replies: int) -> Floats:
    """Each reply's highest value (rows, replies); 0 where it has none."""
    made = np.zeros((len(values), replies), dtype=np.float32)
    if len(owners):
        order = np.argsort(owners, kind="stable")
        sorted_owners = owners[order]
        starts = np.flatnonzero(np.r_[True, sorted_owners[1:] != sorted_owners[:-1]])
        made[:, sorted_owners[starts]] = np.maximum(np.maximum.reduceat(values[:, order], starts, axis=1), 0.0)
    return made
