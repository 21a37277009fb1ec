"""Texts in, labels out, on a bundle alone: what the gate, the benchmarks and parity use to ask a version."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from perennial.continual.arrays import in_order, pad, softmax
from perennial.continual.learning.lexical import WordScores
from perennial.continual.learning.trained import HEAD_FILE
from perennial.exporters.bundle import Manifest, read_manifest
from perennial.exporters.engine import Engine, Floats
from perennial.exporters.runtime import load_engine

__all__ = ["BundleClassifier", "Predictions", "TextTokenizer", "run_sorted"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Predictions:
    """Answers in the order of the texts: labels, their probabilities, logits (n, C) and embeddings (n, d)."""

    labels: list[str]
    confidences: Floats
    logits: Floats
    embeddings: Floats


class TextTokenizer:
    """A bundle's tokenizer: truncates, never pads, gives ragged rows."""

    def __init__(self, path: Path) -> None:
        from tokenizers import Tokenizer

        self._tokenizer = Tokenizer.from_file(str(path))

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text."""
        return [encoding.ids for encoding in self._tokenizer.encode_batch_fast(list(texts))]


class BundleClassifier:
    """A version's engine with its tokenizer and labels."""

    def __init__(
        self,
        *,
        engine: Engine,
        tokenizer: TextTokenizer,
        labels: Sequence[str],
        manifest: Manifest,
        words: WordScores | None = None,
    ) -> None:
        self.engine = engine
        self.words = words
        self.tokenizer = tokenizer
        self.labels = tuple(labels)
        self.manifest = manifest

    @classmethod
    def load(cls, bundle: Path, threads: int = 0, cache_dir: Path | None = None) -> "BundleClassifier":
        """Verify the bundle and load it.

        Raises:
            BundleRejected: the files do not match the manifest.
        """
        engine = load_engine(bundle, threads=threads, cache_dir=cache_dir)
        labels = json.loads((bundle / "labels.json").read_text(encoding="utf-8"))
        tokenizer = TextTokenizer(bundle / "tokenizer.json")
        return cls(
            engine=engine,
            tokenizer=tokenizer,
            labels=labels,
            manifest=read_manifest(bundle),
            words=WordScores.read(bundle / HEAD_FILE),
        )

    def predict(self, texts: Sequence[str], batch: int = 32) -> Predictions:
        """Answer every text, in batches of similar length; the order of the answers is the order of the texts."""
        logits, embeddings = run_sorted(self.engine, self.tokenizer.encode(texts), batch)
        if not texts:
            logits = np.zeros((0, self.manifest.classes), dtype=np.float32)
            embeddings = np.zeros((0, self.manifest.dimension), dtype=np.float32)
        elif self.words is not None:
            logits = logits + self.words(texts)
        best = logits.argmax(axis=1) if len(texts) else np.zeros(0, dtype=np.int64)
        confidences = softmax(logits)[np.arange(len(texts)), best]
        return Predictions(
            labels=[self.labels[index] for index in best],
            confidences=confidences.astype(np.float32),
            logits=logits,
            embeddings=embeddings,
        )


def run_sorted(engine: Engine, rows: Sequence[Sequence[int]], batch: int) -> tuple[Floats, Floats]:
    """Logits (n, C) and embeddings (n, d) in the rows' own order, run in batches of similar length."""
    collected: list[tuple[npt.NDArray[np.intp], Floats, Floats]] = []
    for chosen in _batches(rows, batch):
        logits, embedding = engine.infer(*pad([rows[index] for index in chosen]))
        collected.append((chosen, logits, embedding))
    if not collected:
        return np.zeros((0, 0), dtype=np.float32), np.zeros((0, 0), dtype=np.float32)
    order = np.concatenate([item[0] for item in collected])
    return in_order(order, [item[1] for item in collected]), in_order(order, [item[2] for item in collected])


def _batches(rows: Sequence[Sequence[int]], batch: int) -> Iterator[npt.NDArray[np.intp]]:
    order: npt.NDArray[Any] = np.argsort([len(row) for row in rows], kind="stable")
    for start in range(0, len(rows), batch):
        yield order[start : start + batch]
