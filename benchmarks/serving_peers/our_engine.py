"""A bundle's engine and tokenizer for any Python server: what is behind each of them is the same."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from perennial.continual.arrays import softmax
from perennial.exporters.text_classification.classifier import BundleClassifier
from perennial.exporters.text_classification.signature import LOGITS

__all__ = ["OurEngine"]


class OurEngine:
    """Texts in, labels and confidences out, as one batch."""

    def __init__(self, bundle: Path, cache: Path | None) -> None:
        self._bundle = BundleClassifier.load(bundle, cache_dir=cache)

    def answer(self, texts: Sequence[str]) -> list[tuple[str, float]]:
        """One label a text, and how sure it is."""
        logits = self._bundle.engine.infer(self._bundle.encode(texts))[LOGITS]
        if self._bundle.words is not None:
            logits = self._bundle.words.whole(logits, texts)
        best = logits.argmax(axis=1)
        sure = softmax(logits)[np.arange(len(texts)), best]
        return [(self._bundle.labels[place], float(share)) for place, share in zip(best, sure, strict=True)]
