"""Text classification: texts in, labels with their probabilities out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from .tensors import PREDICTION_ID, VERSION, Array, column, strings

__all__ = ["FURTHER", "KNOWN", "USUAL", "Further", "Prediction", "further_of", "predictions_in", "text_tensors"]

TEXT, LABEL, CONFIDENCE, SCORES, LABELS, KNOWN = "TEXT", "LABEL", "CONFIDENCE", "SCORES", "LABELS", "KNOWN"
USUAL = (LABEL, CONFIDENCE, VERSION, PREDICTION_ID)
FURTHER = (SCORES, LABELS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """The answer to one text. `scores` maps label to probability; both it and `known` where they were asked for."""

    label: str
    confidence: float
    version: int
    prediction_id: str
    scores: dict[str, float] | None = None
    known: bool | None = None


class Further(NamedTuple):
    """What was asked for beside a text's label."""

    scores: dict[str, float] | None
    known: bool | None


def text_tensors(texts: Sequence[str]) -> dict[str, Array]:
    """A request about texts."""
    return {TEXT: strings(TEXT, texts)}


def predictions_in(outputs: Mapping[str, Array]) -> list[Prediction]:
    """The answers, one a text."""
    rows = zip(*(column(outputs, name) for name in USUAL), further_of(outputs), strict=True)
    return [
        Prediction(
            label=label.decode(),
            confidence=confidence,
            version=version,
            prediction_id=number.decode(),
            scores=more.scores,
            known=more.known,
        )
        for label, confidence, version, number, more in rows
    ]


def further_of(outputs: Mapping[str, Array]) -> list[Further]:
    """What each row has beside its label. A place without a label belongs to another version's row."""
    known = column(outputs, KNOWN) if KNOWN in outputs else [None] * len(outputs[LABEL])
    if SCORES not in outputs:
        return [Further(None, each) for each in known]
    return [
        Further(
            {label.decode(): float(score) for label, score in zip(labels, scores, strict=True) if label},
            each,
        )
        for labels, scores, each in zip(outputs[LABELS], outputs[SCORES], known, strict=True)
    ]
