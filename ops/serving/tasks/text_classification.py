"""Text classification at the router: texts in, labels with their probabilities out."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt

from perennial.client.texts import Prediction, predictions_in, text_tensors
from perennial.continual.arrays import softmax
from perennial.continual.errors import DataError, NotFound
from perennial.continual.learning.card import is_finished, read_card
from perennial.continual.learning.head import WideHead
from perennial.continual.learning.lexical import WordScores
from perennial.continual.learning.open_set import OpenSet
from perennial.continual.learning.trained import HEAD_FILE, PROOF_FILE, read_proved_head
from perennial.continual.preparation import deidentify
from perennial.exporters.signature import Array, EngineSignature, RouterSignature
from perennial.exporters.text_classification.part import TOKENIZER_FILE, read_labels
from perennial.exporters.text_classification.signature import (
    ATTENTION_MASK,
    CONFIDENCE,
    EMBEDDING,
    KNOWN,
    LABEL,
    LABELS,
    LOGITS,
    SCORES,
    TEXT,
    TEXT_ENGINE,
    TEXT_ROUTER,
)
from perennial.exporters.text_classification.tokens import TextTokenizer, padded
from perennial.ops.serving.port import FurtherProof, Mindless
from perennial.ops.serving.tensors import column, decoded

__all__ = ["SIDE", "Classified", "LabelsVersion", "TextVersion", "logged_answers"]

Floats = npt.NDArray[np.float32]
_LONGEST_CHARACTER = 4  # bytes in UTF-8


class Classified(NamedTuple):
    """One text's answer. `scores` (C,) belong to `labels` in order; `margin` and `entropy` (in nats) are theirs.

    `known` says whether the text is of any class; None where the version cannot tell.
    """

    label: str
    confidence: float
    scores: Floats
    labels: tuple[str, ...]
    embedding: Floats
    margin: float
    entropy: float
    tokens: int
    known: bool | None = None

    @property
    def kept(self) -> str:
        """The label."""
        return self.label


class LabelsVersion:
    """A version's labels, and what its engine's outputs say of them.

    With `proved` the engine gives its embeddings alone, and the head that was proved on them gives the answers.
    """

    def __init__(self, folder: Path, *, proved: bool = False) -> None:
        try:
            self.labels = read_labels(folder)
            self._read_inputs(folder)
            self._words = WordScores.read(folder / HEAD_FILE)  # what they add to the engine's logits, where it has any
            self._open_set = OpenSet.read(folder)
            self._proved = _proved_head(folder) if proved else None
        except Exception as exc:  # tokenizers raises bare Exception
            raise NotFound(f"version folder {folder} cannot be read ({exc}); restore it or route elsewhere") from exc

    def _read_inputs(self, folder: Path) -> None:
        """Read what turns inputs into the engine's."""
        raise NotImplementedError

    @property
    def vocabulary(self) -> frozenset[str]:
        """The labels."""
        return frozenset(self.labels)

    def classified(
        self,
        task_inputs: Sequence[str],
        tokens: Array,
        outputs: Mapping[str, Array],
        within: frozenset[str] | None,
    ) -> list[Classified]:
        """The likeliest label of each row and its calibrated probability."""
        sums = self._sums(task_inputs, outputs)
        logits = sums if self._words is None else self._words.linked(sums)
        scores = softmax(logits)
        confidences, margins = _highest(scores)
        if within is None:
            best = scores.argmax(axis=1)
        else:
            best = self._best(logits, within)
            confidences = scores[np.arange(len(best)), best]
        columns = (confidences, margins, _entropies(scores), tokens)
        known = (
            [None] * len(best) if self._open_set is None else self._open_set.known(sums, outputs[EMBEDDING]).tolist()
        )
        rows = zip(
            best.tolist(), scores, outputs[EMBEDDING], *(column.tolist() for column in columns), known, strict=True
        )
        return [
            Classified(self.labels[label], confidence, row, self.labels, embedding, margin, entropy, tokens, is_known)
            for label, row, embedding, confidence, margin, entropy, tokens, is_known in rows
        ]

    def _sums(self, task_inputs: Sequence[str], outputs: Mapping[str, Array]) -> Floats:
        """The engine's part and that of the words, before any link."""
        if self._proved is not None:
            return self._proved.logits(outputs[EMBEDDING], task_inputs).astype(np.float32)
        return outputs[LOGITS] if self._words is None else outputs[LOGITS] + self._words(task_inputs)

    def _best(self, logits: Floats, within: frozenset[str]) -> npt.NDArray[np.intp]:
        allowed = np.array([label in within for label in self.labels])
        best: npt.NDArray[np.intp] = np.where(allowed[None, :], logits, -np.inf).argmax(axis=1)
        return best


class TextVersion(LabelsVersion):
    """A version's tokenizer and labels."""

    def _read_inputs(self, folder: Path) -> None:
        self._tokenizer = TextTokenizer(folder / TOKENIZER_FILE)
        self._card = read_card(folder) if is_finished(folder) else None

    def _as_read(self, texts: Sequence[str]) -> Sequence[str]:
        """Texts as those were read that the version learnt from."""
        return texts if self._card is None else self._card.as_read(texts)

    @property
    def signature(self) -> EngineSignature:
        """With the number of labels."""
        return TEXT_ENGINE.bound(classes=len(self.labels))

    def encode(self, inputs: Sequence[str]) -> Mapping[str, Array]:
        """Token ids and mask (rows, longest), padded with zeros; a text without a token counts as one padding id."""
        rows = padded(self._tokenizer.encode(self._as_read(inputs)), width=1)
        rows[ATTENTION_MASK][:, 0] = 1
        return rows

    def answers(
        self,
        task_inputs: Sequence[str],
        inputs: Mapping[str, Array],
        outputs: Mapping[str, Array],
        *,
        within: frozenset[str] | None = None,
    ) -> list[Classified]:
        """See `classified`."""
        tokens = np.add.reduce(inputs[ATTENTION_MASK], axis=1)
        return self.classified(self._as_read(task_inputs), tokens, outputs, within)


def _proved_head(folder: Path) -> WideHead | None:
    """The head as it was proved, without its link; None where it is the one that answers."""
    return WideHead(replace(read_proved_head(folder), link=None)) if (folder / PROOF_FILE).is_file() else None


class _TextClassification:
    """See `perennial.ops.serving.port.ServingSide`."""

    name: ClassVar[str] = "text_classification"
    signature: ClassVar[RouterSignature] = TEXT_ROUTER
    engine: ClassVar[EngineSignature] = TEXT_ENGINE
    probe: ClassVar[str] = "are you there"
    remembers: ClassVar[bool] = False
    reads_slowly: ClassVar[bool] = False
    input_columns: ClassVar[tuple[str, ...]] = ("text",)

    def request(self, inputs: Sequence[str]) -> Mapping[str, Array]:
        return text_tensors(inputs)

    def received(self, outputs: Mapping[str, Array]) -> list[Prediction]:
        return predictions_in(outputs)

    def sizes(self, tensors: Mapping[str, Array]) -> list[int]:
        if TEXT not in tensors:
            raise DataError(f"the input {TEXT} is missing; send one text a row as BYTES of shape [rows, 1]")
        texts = tensors[TEXT]
        if not len(texts):
            raise DataError(f"the input {TEXT} has no rows; send at least one")
        return [len(text) for text in texts.reshape(-1).tolist()]

    def questions(self, tensors: Mapping[str, Array], *, max_characters: int) -> list[str]:
        """Texts as they came, cut: the bytes first, so that a megabyte costs no more than a text that fits."""
        texts = []
        for row, raw in enumerate(tensors[TEXT].reshape(-1).tolist()):
            cut = raw[: _LONGEST_CHARACTER * max_characters]
            texts.append(decoded(TEXT, row, cut, whole=len(cut) == len(raw))[:max_characters])
        return texts

    def caller(self, task_input: str) -> str:
        return ""

    def memory(self, path: Path | None) -> Mindless:
        return Mindless()

    def further_proofs(self, path: Path | None) -> Sequence[FurtherProof]:
        del path
        return ()

    def open(self, bundle: Path, *, proved: bool = False) -> TextVersion:
        return TextVersion(bundle, proved=proved)

    def outcomes(self, bundle: Path) -> None:
        return

    def tensors(self, answers: Sequence[Classified], wanted: frozenset[str]) -> Mapping[str, Array]:
        """Rows of versions with different classes share one width; the missing places hold 0 and an empty label."""
        arrays: dict[str, Array] = {}
        if LABEL in wanted:
            arrays[LABEL] = column([answer.label.encode() for answer in answers], np.object_)
        if CONFIDENCE in wanted:
            arrays[CONFIDENCE] = column([answer.confidence for answer in answers], np.float32)
        if SCORES in wanted:
            arrays[SCORES] = _scores(answers)
        if LABELS in wanted:
            arrays[LABELS] = _labels(answers)
        if KNOWN in wanted:  # what a version cannot tell from its classes counts as of them
            arrays[KNOWN] = column([answer.known is not False for answer in answers], np.bool_)
        return arrays

    def logged_input(self, logged: Mapping[str, Any]) -> str | None:
        text: str = logged["text"]
        return text if text.strip() else None

    def columns(self, inputs: Sequence[str], answers: Sequence[Classified]) -> Mapping[str, Sequence[Any]]:
        texts = [deidentify(text) for text in inputs]
        return {
            "text": texts,
            "redacted": [kept != text for kept, text in zip(texts, inputs, strict=True)],
            **logged_answers(answers),
        }


def logged_answers(answers: Sequence[Classified]) -> Mapping[str, Sequence[Any]]:
    """What the log keeps of answers, whatever was asked."""
    return {
        "prediction": [answer.label for answer in answers],
        "confidence": [answer.confidence for answer in answers],
        "margin": [answer.margin for answer in answers],
        "entropy": [answer.entropy for answer in answers],
        "tokens": [answer.tokens for answer in answers],
        "known": [answer.known for answer in answers],
    }


def _scores(answers: Sequence[Classified]) -> Array:
    scores = np.zeros((len(answers), max(len(answer.scores) for answer in answers)), dtype=np.float32)
    for row, answer in enumerate(answers):
        scores[row, : len(answer.scores)] = answer.scores
    return scores


def _labels(answers: Sequence[Classified]) -> Array:
    labels = np.full((len(answers), max(len(answer.labels) for answer in answers)), b"", dtype=np.object_)
    for row, answer in enumerate(answers):
        labels[row, : len(answer.labels)] = [label.encode() for label in answer.labels]
    return labels


def _highest(scores: Floats) -> tuple[Floats, Floats]:
    """Each row's highest score, and how far the next one is below it."""
    if scores.shape[1] < 2:
        return scores[:, 0], np.ones(len(scores), dtype=np.float32)
    ordered = scores.copy()
    ordered.partition(-2, axis=1)
    highest = ordered[:, -1]
    return highest, highest - ordered[:, -2]


def _entropies(scores: Floats) -> Floats:
    entropies: Floats = -np.add.reduce(scores * np.log(np.maximum(scores, 1e-12)), axis=1)
    return entropies


SIDE = _TextClassification()
