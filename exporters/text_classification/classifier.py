"""Texts in, labels out, on a bundle alone: what the gate, the benchmarks and parity use to ask a version."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from perennial.continual.arrays import softmax
from perennial.continual.learning.lexical import WordScores
from perennial.continual.learning.trained import HEAD_FILE
from perennial.exporters.batches import run_sorted
from perennial.exporters.bundle import Manifest, read_manifest
from perennial.exporters.engine import Engine
from perennial.exporters.runtime import load_engine
from perennial.exporters.text_classification.answering import TextAnswerer, Tokenises
from perennial.exporters.text_classification.part import TOKENIZER_FILE, TextPart, read_labels
from perennial.exporters.text_classification.signature import EMBEDDING, LOGITS
from perennial.exporters.text_classification.tokens import TextTokenizer

__all__ = ["BundleClassifier", "Predictions"]

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Predictions:
    """Answers in the order of the texts: labels, their probabilities, logits (n, C) and embeddings (n, d)."""

    labels: list[str]
    confidences: Floats
    logits: Floats
    embeddings: Floats


class BundleClassifier(TextAnswerer):
    """A version's engine with its tokenizer and labels."""

    def __init__(
        self,
        *,
        engine: Engine,
        tokenizer: Tokenises,
        labels: Sequence[str],
        manifest: Manifest,
        words: WordScores | None = None,
    ) -> None:
        super().__init__(engine=engine, tokenizer=tokenizer, labels=labels)
        self.manifest, self.words = manifest, words

    @classmethod
    def load(cls, bundle: Path, threads: int = 0, cache_dir: Path | None = None) -> "BundleClassifier":
        """Verify the bundle and load it.

        Raises:
            BundleRejected: the files do not match the manifest.
        """
        engine = load_engine(bundle, threads=threads, cache_dir=cache_dir)
        tokenizer = TextTokenizer(bundle / TOKENIZER_FILE)
        return cls(
            engine=engine,
            tokenizer=tokenizer,
            labels=read_labels(bundle),
            manifest=read_manifest(bundle),
            words=WordScores.read(bundle / HEAD_FILE),
        )

    def predict(self, texts: Sequence[str], batch: int = 32) -> Predictions:
        """Answer every text, in batches of similar length; the order of the answers is the order of the texts."""
        if not texts:
            part = TextPart.read(self.manifest.part)
            nothing = np.zeros((0, 0), dtype=np.float32)
            logits, embeddings = nothing.reshape(0, part.classes), nothing.reshape(0, part.dimension)
            return Predictions(labels=[], confidences=nothing.ravel(), logits=logits, embeddings=embeddings)
        outputs = run_sorted(self.engine, self.signature, self.encode(texts), batch)
        logits = outputs[LOGITS] if self.words is None else self.words.whole(outputs[LOGITS], texts)
        best = logits.argmax(axis=1)
        return Predictions(
            labels=[self.labels[index] for index in best],
            confidences=softmax(logits)[np.arange(len(texts)), best].astype(np.float32),
            logits=logits,
            embeddings=outputs[EMBEDDING],
        )
