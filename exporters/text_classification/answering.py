"""An engine with the tokenizer and labels of its version: texts in, labels out."""

from collections.abc import Sequence
from typing import Protocol

from perennial.exporters.engine import Engine, Inputs, Outputs
from perennial.exporters.port import Answerer
from perennial.exporters.signature import EngineSignature
from perennial.exporters.text_classification.signature import LOGITS, TEXT_ENGINE
from perennial.exporters.text_classification.tokens import padded

__all__ = ["TextAnswerer", "Tokenises", "unlike_labels"]


_JOINED, _MOST = 64, 100_000


class Tokenises(Protocol):
    """Whatever makes token rows of texts."""

    @property
    def ids(self) -> int:
        """How many token ids it knows."""
        ...

    def encode(self, texts: Sequence[str], /) -> list[list[int]]:
        """The token ids of each text, unpadded."""
        ...


class TextAnswerer:
    """See `perennial.exporters.port.Answerer`."""

    task = "text_classification"

    def __init__(self, *, engine: Engine, tokenizer: Tokenises, labels: Sequence[str]) -> None:
        self.engine, self.tokenizer, self.labels = engine, tokenizer, tuple(labels)

    @property
    def signature(self) -> EngineSignature:
        """The engine's, with the number of labels."""
        return TEXT_ENGINE.bound(classes=len(self.labels))

    def encode(self, inputs: Sequence[str]) -> Inputs:
        """Token ids and mask of each text."""
        return padded(self.tokenizer.encode(inputs))

    def edges(self, inputs: Sequence[str]) -> dict[str, Inputs]:
        """A text beyond the limit, where there is one, an empty text, and the last ids that the tokenizer knows."""
        last = self.tokenizer.ids - 1
        rows = {
            "an empty text": self.tokenizer.encode([""])[0],
            "a row of the tokenizer's last ids": [place for place in (last, last - 1, last) if place >= 0],
        }
        text = " ".join(inputs[:_JOINED])
        while 0 < len(text) < _MOST:
            once, twice = self.tokenizer.encode([text, f"{text} {text}"])
            if len(once) == len(twice):
                rows["a text beyond the limit"] = twice
                break
            text = f"{text} {text}"
        return {what: padded([row], width=1) for what, row in rows.items()}

    def answers(self, outputs: Outputs) -> list[str]:
        """The likeliest label of each row."""
        return [self.labels[index] for index in outputs[LOGITS].argmax(axis=1)]

    def unlike(self, other: Answerer) -> list[str]:
        """Labels that stand at another logit."""
        return unlike_labels(self.labels, other.labels) if isinstance(other, TextAnswerer) else []


def unlike_labels(mine: Sequence[str], others: Sequence[str]) -> list[str]:
    """In words, how many labels stand at another logit than in the model, whose labels are the others."""
    if tuple(mine) == tuple(others):
        return []
    moved = sum(a != b for a, b in zip(others, mine, strict=False)) + abs(len(others) - len(mine))
    return [f"{moved} of {len(others)} labels stand at another logit than in the model"]
