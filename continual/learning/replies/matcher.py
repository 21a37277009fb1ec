"""The weights by which a reply is chosen: learnt of approved questions, and part of a version."""

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from perennial.continual.arrays import softmax
from perennial.continual.errors import DataError
from perennial.continual.learning.replies.features import FEATURES, Floats, Searched, Surface

__all__ = ["MATCHER_FILE", "UNLEARNT", "Matcher", "scored", "to_answers"]

MATCHER_FILE = "matcher.safetensors"
logger = logging.getLogger(__name__)
_FORMAT = "perennial-matcher-1"
_USUAL = {  # before anything is learnt
    "asked": -4.0,
    "question": 14.0,
    "question_words": 6.0,
    "question_letters": 4.0,
    "question_same": 12.0,
    "refused": -4.0,
    "answer": 12.0,
    "answer_words": 6.0,
    "answer_letters": 2.0,
    "asked_answer": 6.0,
    "asked_answer_words": 3.0,
    "asked_answer_letters": 1.0,
    "intent": 0.3,
    "follows": 0.5,
    "habit": 0.5,
}

UNLEARNT = frozenset({"question_same", "intent", "follows", "habit"})  # whose weights stay the usual ones
_LATER = frozenset({"question_same"})  # of these, what matchers of this format may lack


def _usual() -> Floats:
    return np.array([_USUAL.get(name, 0.0) for name in FEATURES], dtype=np.float32)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Matcher:
    """Weights of `FEATURES`, the way from questions to their answers, and how sure the best score is.

    >>> Matcher().probability(np.array([[9.0, 1.0], [1.0, 1.0]])).round(1).tolist()
    [[1.0, 0.0], [0.5, 0.5]]
    """

    weights: Floats = field(default_factory=_usual)
    way: Floats | None = None  # (d, d): what an answer's embedding has that its question's has not
    slope: float = 0.5  # of the log odds of being right in those of the scores
    shift: float = 0.0
    vectors: Mapping[str, Floats] = field(default_factory=dict)  # embeddings of texts of the library
    metrics: Mapping[str, float] = field(default_factory=dict)
    proved: "Matcher | None" = None  # the same without what proves it; its own embeddings are not used
    outdated: bool = False  # its weights are not used: another release learnt them of other features

    def searched(self, surface: Surface, embeddings: Floats, texts: list[str], library: Floats) -> Searched:
        """Questions with their embeddings (questions, d) beside the library's (texts, d), of length 1 or 0."""
        words, letters, same = surface.found(texts)
        meaning = embeddings @ library.T
        mapped = meaning if self.way is None else to_answers(embeddings, self.way) @ library.T
        return Searched(meaning=meaning, mapped=mapped, words=words, letters=letters, same=same)

    def scores(self, features: Floats) -> Floats:
        """Of each reply (questions, replies); higher is better."""
        return scored(features, self.weights)

    def probability(self, scores: NDArray[Any]) -> Floats:
        """How probably each reply is right (questions, replies)."""
        shares = np.clip(softmax(scores), 1e-6, 1 - 1e-6)
        odds = self.slope * np.log(shares / (1 - shares)) + self.shift
        sure: Floats = (1.0 / (1.0 + np.exp(-odds))).astype(np.float32)
        return sure

    def write(self, folder: Path) -> None:
        """Write the file of a version."""
        from safetensors.numpy import save_file

        tensors = self._learnt()
        if self.vectors:
            tensors["vectors"] = np.stack(list(self.vectors.values())).astype(np.float32)
        if self.proved is not None:
            tensors |= {f"proved_{name}": tensor for name, tensor in self.proved._learnt().items()}
        about = {"format": _FORMAT, "features": FEATURES, "metrics": dict(self.metrics), "keys": list(self.vectors)}
        folder.mkdir(parents=True, exist_ok=True)
        save_file(tensors, str(folder / MATCHER_FILE), metadata={"about": json.dumps(about)})

    def _learnt(self) -> dict[str, NDArray[Any]]:
        learnt: dict[str, NDArray[Any]] = {"weights": self.weights, "link": np.array([self.slope, self.shift])}
        if self.way is not None:
            learnt["way"] = np.ascontiguousarray(self.way, dtype=np.float32)
        return learnt

    @classmethod
    def read(cls, folder: Path, *, proved: bool = False) -> "Matcher":
        """A version's, or as it was before it learnt the questions that prove it, where it keeps that.

        Where there is none, and where a release with other features learnt the weights, they are the usual ones:
        weights of other features would mislead. `outdated` tells so, until the version is trained again.

        Raises:
            DataError: the file cannot be read.
        """
        from safetensors import SafetensorError, safe_open

        path = folder / MATCHER_FILE
        if not path.is_file():
            return cls()
        try:
            with safe_open(path, framework="np") as file:
                about = json.loads(file.metadata()["about"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  not a mapping
            vectors = dict(zip(about["keys"], tensors.get("vectors", ()), strict=True))
            learnt_of = tuple(about["features"])
            if [name for name in FEATURES if name in learnt_of or name not in _LATER] != list(learnt_of):
                logger.warning("matcher.outdated", extra={"file": str(path), "next": "retrain the model"})
                return cls(vectors=vectors, outdated=True)
            prefix = "proved_" if proved and "proved_weights" in tensors else ""
            slope, shift = map(float, tensors[f"{prefix}link"])
            weights = _usual()
            weights[[FEATURES.index(name) for name in learnt_of]] = tensors[f"{prefix}weights"]
            return cls(
                weights=weights,
                way=tensors.get(f"{prefix}way"),
                slope=slope,
                shift=shift,
                vectors=vectors,
                metrics=about["metrics"],
            )
        except (OSError, SafetensorError, LookupError, ValueError, TypeError) as error:
            raise DataError(f"{path} is no matcher of this release ({error}); export the version again") from error


def scored(features: Floats, weights: Floats) -> Floats:
    """The weighted sum of features (questions, replies, features), as one product."""
    rows, replies, columns = features.shape
    scores: Floats = (features.reshape(-1, columns) @ weights).reshape(rows, replies)
    return scores


def to_answers(embeddings: Floats, way: Floats) -> Floats:
    """Where answers to the questions usually lie (questions, d)."""
    made: Floats = embeddings + embeddings @ way
    return made
