"""Perennial's arms of the learning benchmark; each yields the scores on all test rows after every update."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.learning_data import LAYERS, Frozen
from continual.learning.calibration import fit_temperature, places_of
from continual.learning.fourier import FourierFeatures
from continual.learning.kernel_lda import KernelLda
from continual.replay import make_buffer

__all__ = [
    "BATCH",
    "EPOCHS",
    "RATE",
    "Tuned",
    "Update",
    "blend",
    "first_weights",
    "kernel_lda",
    "layered_features",
    "replay_mlp",
    "tune",
]

EPOCHS, BATCH, RATE = 10, 32, 1e-3  # the same for Avalanche's arms


@dataclass(frozen=True, slots=True, kw_only=True)
class Update:
    """One update's outcome: scores (test rows, classes) in published class order, NaN-free; what it took."""

    scores: NDArray[np.float32]
    seconds: float
    steps: int


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
    head.add(x_train[~held], [label for label, out in zip(texts, held, strict=True) if not out])
    best = Tuned(shrinkage=0.0, temperature=1.0, holdout_accuracy=-1.0)
    for shrinkage in (1e-6, 3e-6, 1e-5):
        weights = head.solve(shrinkage=shrinkage)
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
    for classes in _updates(order, per_update):
        start = time.perf_counter()
        rows = np.flatnonzero(np.isin(data.y_train, classes))
        head.add(x_train[rows], [data.train[row].label for row in rows])
        weights = head.solve(shrinkage=tuned.shrinkage, temperature=tuned.temperature)
        seconds = time.perf_counter() - start
        scores = np.full((len(x_test), len(data.labels)), -np.inf, dtype=np.float32)
        scores[:, [place[label] for label in weights.labels]] = weights.logits(x_test)
        yield Update(scores=scores, seconds=seconds, steps=1)


def _inputs(data: Frozen, features: FourierFeatures) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    if features.dimension > data.x_train.shape[1]:
        return data.layers_train, data.layers_test
    return data.x_train, data.x_test


def layered_features(dimension: int, features_a_layer: int, gamma: float, seed: int) -> FourierFeatures:
    """Return Fourier features of each of LAYERS apart, as one block-diagonal map over the layers side by side."""
    parts = [
        FourierFeatures.make(dimension=dimension, features=features_a_layer, gamma=gamma, seed=seed + i)
        for i in range(len(LAYERS))
    ]
    omega = np.zeros((dimension * len(parts), features_a_layer * len(parts)), dtype=np.float32)
    for i, part in enumerate(parts):
        block = np.s_[i * dimension : (i + 1) * dimension, i * features_a_layer : (i + 1) * features_a_layer]
        omega[block] = part.omega
    return FourierFeatures(omega=omega, phase=np.concatenate([part.phase for part in parts]))


def first_weights(dimension: int, classes: int, seed: int) -> list[NDArray[np.float32]]:
    """Return the first weights of the 384-512-77 network, the same for every arm that trains one."""
    import torch

    torch.manual_seed(seed)
    net = _net(dimension, classes)
    return [parameter.detach().numpy().copy() for parameter in net.parameters()]


def replay_mlp(
    data: Frozen, order: Sequence[int], per_update: int, *, kind: str, rows: int, seed: int
) -> Iterator[Update]:
    """Experience replay on the frozen last layer: 32 new and 32 replayed rows a step, as in Avalanche's replay."""
    import torch

    torch.manual_seed(seed)
    torch.set_num_threads(1)
    net = _net(data.x_train.shape[1], len(data.labels))
    with torch.no_grad():
        first = first_weights(data.x_train.shape[1], len(data.labels), seed)
        for parameter, value in zip(net.parameters(), first, strict=True):
            parameter.copy_(torch.from_numpy(value))
    optimiser = torch.optim.Adam(net.parameters(), lr=RATE)
    x, y, x_test = torch.from_numpy(data.x_train), torch.from_numpy(data.y_train), torch.from_numpy(data.x_test)
    row_of = {example.text: i for i, example in enumerate(data.train)}
    buffer, rng = make_buffer(kind, rows, seed), np.random.default_rng(seed)
    for classes in _updates(order, per_update):
        start, steps = time.perf_counter(), 0
        fresh = np.flatnonzero(np.isin(data.y_train, classes))
        stored = np.array([row_of[example.text] for example in buffer.rows()], dtype=np.int64)
        net.train()
        for _ in range(EPOCHS):
            replayed = _endless(stored, rng)
            shuffled = rng.permutation(fresh)
            for first_row in range(0, len(shuffled), BATCH):
                batch = np.concatenate([shuffled[first_row : first_row + BATCH], next(replayed)])
                loss = torch.nn.functional.cross_entropy(net(x[batch]), y[batch])
                optimiser.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimiser.step()
                steps += 1
        _fill(buffer, data, fresh, net, x)
        seconds = time.perf_counter() - start
        net.eval()
        with torch.no_grad():
            yield Update(scores=net(x_test).numpy(), seconds=seconds, steps=steps)


def blend(one: Sequence[Update], two: Sequence[Update], share: float) -> Iterator[Update]:
    """Mix two arms' log probabilities over the classes that both know, `share` of the second."""
    for a, b in zip(one, two, strict=True):
        known = np.isfinite(a.scores[0])
        scores = np.full(a.scores.shape, -np.inf, dtype=np.float32)
        scores[:, known] = (1 - share) * _log_softmax(a.scores[:, known]) + share * _log_softmax(b.scores[:, known])
        yield Update(scores=scores, seconds=a.seconds + b.seconds, steps=a.steps + b.steps)


def _log_softmax(scores: NDArray[np.float32]) -> NDArray[np.float32]:
    shifted = scores - scores.max(axis=1, keepdims=True)
    logs: NDArray[np.float32] = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return logs


def _fill(buffer: Any, data: Frozen, fresh: NDArray[np.int64], net: Any, x: Any) -> None:
    import torch

    net.eval()
    with torch.no_grad():
        embeddings = x[fresh]
        sure = torch.softmax(net(embeddings), 1).max(1).values.numpy()
    for row, embedding, confidence in zip(fresh, embeddings.numpy(), sure, strict=True):
        doubt = float(np.clip(1.0 - confidence, 0.0, 1.0))
        buffer.offer(data.train[row], uncertainty=doubt, embedding=embedding)


def _endless(stored: NDArray[np.int64], rng: np.random.Generator) -> Iterator[NDArray[np.int64]]:
    """Yield batches of stored rows, pass after pass, or empty ones while nothing is stored."""
    while True:
        shuffled = rng.permutation(stored)
        for start in range(0, max(len(shuffled), 1), BATCH):
            yield shuffled[start : start + BATCH]


def _net(dimension: int, classes: int) -> Any:
    import torch

    return torch.nn.Sequential(
        torch.nn.Linear(dimension, 512), torch.nn.ReLU(), torch.nn.Dropout(0.1), torch.nn.Linear(512, classes)
    )


def _updates(order: Sequence[int], per_update: int) -> Iterator[Sequence[int]]:
    for start in range(0, len(order), per_update):
        yield order[start : start + per_update]
