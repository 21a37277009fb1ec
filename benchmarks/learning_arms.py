"""The closed-form arms of the learning benchmark; each yields the scores on all test rows after every update."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.learning_data import Frozen
from perennial.continual.learning.calibration import fit_temperature, places_of
from perennial.continual.learning.class_sums import ClassRows
from perennial.continual.learning.context import Context
from perennial.continual.learning.fast import train_fast
from perennial.continual.learning.fourier import FourierFeatures
from perennial.continual.learning.kernel_lda import Discriminant, KernelLda
from perennial.continual.learning.names import LearnerName
from perennial.continual.learning.rows import write_rows
from perennial.continual.learning.spec import JobSpec
from perennial.continual.learning.trained import read_head
from perennial.continual.preparation import split_of
from perennial.continual.records import Example, Split

__all__ = [
    "LAYER_WEIGHTS",
    "Tuned",
    "Update",
    "blend",
    "fast_job",
    "kernel_lda",
    "side_by_side",
    "tune",
    "updates_of",
]

LAYER_WEIGHTS = (1.0, 0.7, 0.5, 0.5)  # of LAYERS; a first guess that five-fold cross-validation on training rows kept


@dataclass(frozen=True, slots=True, kw_only=True)
class Update:
    """One update's outcome: scores (test rows, classes) in published class order, NaN-free; what it took.

    `seconds` are wall time, whatever else the machine did; `cpu_seconds` are this process's own, -1 where not taken.
    """

    scores: NDArray[np.float32]
    seconds: float
    steps: int
    cpu_seconds: float = -1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuned:
    """What the training hold-out chose for a kernel LDA, and its accuracy there in percent."""

    shrinkage: float
    temperature: float
    holdout_accuracy: float


def tune(data: Frozen, features: FourierFeatures, share: float = 0.15) -> Tuned:
    """Choose shrinkage and temperature on a share of the training rows; the test set isn't looked at."""
    x_train, _ = _inputs(data, features)
    held = np.random.default_rng(5).random(len(x_train)) < share
    texts = [row.label for row in data.train]
    head = KernelLda(features)
    head.add(ClassRows(X=x_train[~held], labels=[label for label, out in zip(texts, held, strict=True) if not out]))
    best = Tuned(shrinkage=0.0, temperature=1.0, holdout_accuracy=-1.0)
    for shrinkage in (1e-6, 3e-6, 1e-5):
        weights = head.solve(Discriminant(shrinkage=shrinkage))
        truth = places_of([label for label, out in zip(texts, held, strict=True) if out], weights.labels)
        logits = weights.logits(x_train[held])
        found = 100 * float((logits.argmax(axis=1) == truth).mean())
        if found > best.holdout_accuracy:
            temperature = fit_temperature(logits, truth)
            best = Tuned(shrinkage=shrinkage, temperature=temperature, holdout_accuracy=found)
    return best


def kernel_lda(
    data: Frozen, order: Sequence[int], per_update: int, features: FourierFeatures, tuned: Tuned
) -> Iterator[Update]:
    """The fast learner: sums over Fourier features, no stored rows; unseen classes score -inf."""
    x_train, x_test = _inputs(data, features)
    head = KernelLda(features)
    place = {label: i for i, label in enumerate(data.labels)}
    for classes in updates_of(order, per_update):
        start, began = time.perf_counter(), time.process_time()
        rows = np.flatnonzero(np.isin(data.y_train, classes))
        head.add(ClassRows(X=x_train[rows], labels=[data.train[row].label for row in rows]))
        weights = head.solve(Discriminant(shrinkage=tuned.shrinkage, temperature=tuned.temperature))
        seconds, spent = time.perf_counter() - start, time.process_time() - began
        scores = np.full((len(x_test), len(data.labels)), -np.inf, dtype=np.float32)
        scores[:, [place[label] for label in weights.labels]] = weights.logits(x_test)
        yield Update(scores=scores, seconds=seconds, steps=1, cpu_seconds=spent)


def fast_job(
    data: Frozen, order: Sequence[int], per_update: int, folder: Path, learner: LearnerName
) -> Iterator[Update]:
    """The fast learner's job as `perennial serve` runs it, from a file of rows to a model's folder.

    A tenth of the rows, by the hash of their text, is never learnt: it chooses shrinkage and temperature anew in each
    update, and in production it is what the gate judges by.
    """
    embedding = dict(zip([row.text for row in data.train], data.x_train, strict=True))
    folder.mkdir(parents=True, exist_ok=True)
    previous: Path | None = None
    held: list[Example] = []
    for number, classes in enumerate(updates_of(order, per_update)):
        mine = [row for row, truth in zip(data.train, data.y_train, strict=True) if truth in set(classes)]
        split = [split_of(row.text, holdout_share=0.1) for row in mine]
        held += [row for row, part in zip(mine, split, strict=True) if part is Split.HOLDOUT]
        write_rows(folder / "fresh.jsonl", [row for row, part in zip(mine, split, strict=True) if part is Split.TRAIN])
        write_rows(folder / "held.jsonl", held)
        out = folder / f"update-{number}"
        spec = JobSpec(
            learner=learner,
            previous=previous,
            examples=folder / "fresh.jsonl",
            holdout=folder / "held.jsonl",
            out=out,
            cache=folder / "embeddings",
            params={"gamma": 0.5},
        )
        start, began = time.perf_counter(), time.process_time()
        train_fast(spec, Context(), lambda texts: np.stack([embedding[text] for text in texts]))
        seconds, spent = time.perf_counter() - start, time.process_time() - began
        head, previous = read_head(out), out
        scores = np.full((len(data.y_test), len(data.labels)), -np.inf, dtype=np.float32)
        scores[:, places_of(head.labels, data.labels)] = head.logits(data.x_test, data.test_texts)
        yield Update(scores=scores, seconds=seconds, steps=1, cpu_seconds=spent)


def _inputs(data: Frozen, features: FourierFeatures) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    if features.dimension > data.x_train.shape[1]:
        return side_by_side(data.layers_train), side_by_side(data.layers_test)
    return data.x_train, data.x_test


def side_by_side(layers: NDArray[np.float32]) -> NDArray[np.float32]:
    """The layers of each text with LAYER_WEIGHTS, as one vector of length 1: (rows, 4 x 384)."""
    weights = np.repeat(np.array(LAYER_WEIGHTS, dtype=np.float32), layers.shape[1] // len(LAYER_WEIGHTS))
    weighted = layers * weights
    joined: NDArray[np.float32] = weighted / np.linalg.norm(weighted, axis=1, keepdims=True)
    return joined


def blend(one: Sequence[Update], two: Sequence[Update], share: float) -> Iterator[Update]:
    """Mix two arms' log probabilities over the classes that both know, `share` of the second."""
    for a, b in zip(one, two, strict=True):
        known = np.isfinite(a.scores[0])
        scores = np.full(a.scores.shape, -np.inf, dtype=np.float32)
        scores[:, known] = (1 - share) * _log_softmax(a.scores[:, known]) + share * _log_softmax(b.scores[:, known])
        spent = a.cpu_seconds + b.cpu_seconds
        yield Update(scores=scores, seconds=a.seconds + b.seconds, steps=a.steps + b.steps, cpu_seconds=spent)


def _log_softmax(scores: NDArray[np.float32]) -> NDArray[np.float32]:
    shifted = scores - scores.max(axis=1, keepdims=True)
    logs: NDArray[np.float32] = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return logs


def updates_of(order: Sequence[int], per_update: int) -> Iterator[Sequence[int]]:
    for start in range(0, len(order), per_update):
        yield order[start : start + per_update]
