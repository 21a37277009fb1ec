"""The arms of the learning benchmark that train a network, and how they were tuned."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.learning_arms import Tuned, Update, blend, kernel_lda, updates_of
from benchmarks.learning_data import Frozen
from benchmarks.learning_sums import EmbeddingSums
from perennial.continual.learning.fourier import FourierFeatures
from perennial.continual.learning.strategies.derpp import logit_distance
from perennial.continual.replay import make_buffer

__all__ = [
    "BATCH",
    "EPOCHS",
    "RATE",
    "Rehearsal",
    "final_accuracy",
    "first_weights",
    "held_out_as_test",
    "rehearsed_mlp",
    "tune_rehearsal",
    "tune_share",
]

EPOCHS, BATCH, RATE = 10, 32, 1e-3  # the same for Avalanche's arms


@dataclass(frozen=True, slots=True, kw_only=True)
class Rehearsal:
    """How a network rehearses, chosen per budget on the hold-out of a sixth class order, see `tune_rehearsal`.

    `logits_weight` pulls replayed rows to the logits they had when their update ended (DER++ with a floor for later
    classes); `imagined` is the share of the replayed rows that is drawn from sums instead of the buffer.
    """

    logits_weight: float = 0.0
    imagined: float = 0.0


_CANDIDATES = (
    Rehearsal(),
    Rehearsal(logits_weight=0.5),
    Rehearsal(imagined=0.5),
    Rehearsal(imagined=0.5, logits_weight=0.5),
    Rehearsal(imagined=1.0),
)


def tune_rehearsal(
    data: Frozen, per_update: int, rows: int, *, stored_rows_only: bool
) -> tuple[Rehearsal, dict[str, float], list[Update], Frozen]:
    """Choose how to rehearse with this many rows; also what was tried, in percent, and the best one's updates.

    By final accuracy on 15% of the training rows, in a class order of its own; the test set isn't used.
    """
    order = np.random.default_rng(5).permutation(len(data.labels)).tolist()
    part = held_out_as_test(data, np.random.default_rng(5).random(len(data.y_train)) < 0.15)
    tried: dict[str, float] = {}
    best, chosen, updates = -1.0, Rehearsal(), list[Update]()
    for candidate in _CANDIDATES:
        if stored_rows_only == bool(candidate.imagined):
            continue
        ran = list(rehearsed_mlp(part, order, per_update, kind="class_balanced", rows=rows, seed=5, how=candidate))
        name = f"logits {candidate.logits_weight:g}, imagined {candidate.imagined:g}"
        found = tried[name] = final_accuracy(ran[-1], part)
        if found > best:
            best, chosen, updates = found, candidate, ran
    return chosen, tried, updates, part


def tune_share(
    part: Frozen, per_update: int, features: FourierFeatures, tuned: Tuned, rehearsed: Update
) -> tuple[float, dict[str, float]]:
    """Choose the network's share beside a kernel LDA on the hold-out rows of `part`; none is among the choices."""
    classes = list(range(len(part.labels)))
    closed = list(kernel_lda(part, classes, per_update * 7, features, tuned))[-1:]
    shares = {
        share: final_accuracy(next(blend(closed, [rehearsed], share)), part) for share in (0.0, 0.1, 0.2, 0.3, 0.4)
    }
    return max(shares, key=lambda share: shares[share]), {f"share {share:g}": v for share, v in shares.items()}


def held_out_as_test(data: Frozen, held: NDArray[np.bool_]) -> Frozen:
    """The training rows alone: those that are `held` in the place of the test rows."""
    return replace(
        data,
        train=tuple(row for row, out in zip(data.train, held, strict=True) if not out),
        y_train=data.y_train[~held],
        y_test=data.y_train[held],
        layers_train=data.layers_train[~held],
        layers_test=data.layers_train[held],
    )


def final_accuracy(update: Update, data: Frozen) -> float:
    """Percent of the test rows that an update's scores answer right, among all classes."""
    return 100 * float((update.scores.argmax(axis=1) == data.y_test).mean())


def rehearsed_mlp(
    data: Frozen, order: Sequence[int], per_update: int, *, kind: str, rows: int, seed: int, how: Rehearsal
) -> Iterator[Update]:
    """Replay on the frozen last layer: 32 new and 32 replayed rows a step, as in Avalanche's replay and DER."""
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
    answers = torch.full((len(y), len(data.labels)), torch.nan)  # logits of stored rows when their update ended
    sums = EmbeddingSums(classes=len(data.labels), dimension=data.x_train.shape[1])
    known: list[int] = []
    for classes in updates_of(order, per_update):
        start, began, steps = time.perf_counter(), time.process_time(), 0
        fresh = np.flatnonzero(np.isin(data.y_train, classes))
        stored = np.array([row_of[example.text] for example in buffer.rows()], dtype=np.int64)
        net.train()
        for _ in range(EPOCHS):
            replayed = _endless(stored, rng)
            shuffled = rng.permutation(fresh)
            for first_row in range(0, len(shuffled), BATCH):
                new, old = shuffled[first_row : first_row + BATCH], next(replayed)
                made = round(how.imagined * BATCH) if known else 0
                imagined = sums.draw(made, known, rng)
                loss = _rehearsal_loss(net, x, y, (new, old[: BATCH - made]), answers, how, imagined)
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                steps += 1
        _fill(buffer, data, fresh, net, x)
        known += classes
        if how.imagined:
            sums.add(data.x_train[fresh], data.y_train[fresh])
        net.eval()
        with torch.no_grad():
            entered = [row for example in buffer.rows() if answers[row := row_of[example.text]].isnan().all()]
            logits = net(x[entered])
            for column in known:
                answers[entered, column] = logits[:, column]
            seconds, spent = time.perf_counter() - start, time.process_time() - began
            yield Update(scores=net(x_test).numpy(), seconds=seconds, steps=steps, cpu_seconds=spent)


def _rehearsal_loss(net: Any, x: Any, y: Any, rows: tuple[Any, Any], answers: Any, how: Rehearsal, made: Any) -> Any:
    """Cross-entropy of fresh rows, and of replayed and made-up ones together, and the pull to the stored logits."""
    import torch

    new, old = rows
    real = np.concatenate([new, old])
    logits = net(torch.cat([x[real], torch.from_numpy(made[0])]))
    truth = torch.cat([y[real], torch.from_numpy(made[1])])
    loss = torch.nn.functional.cross_entropy(logits[: len(new)], truth[: len(new)])
    if len(logits) > len(new):
        loss = loss + torch.nn.functional.cross_entropy(logits[len(new) :], truth[len(new) :])
    if how.logits_weight and len(old):
        loss = loss + how.logits_weight * logit_distance(logits[len(new) : len(real)], answers[old])
    return loss


def first_weights(dimension: int, classes: int, seed: int) -> list[NDArray[np.float32]]:
    """Return the first weights of the 384-512-77 network, the same for every arm that trains one."""
    import torch

    torch.manual_seed(seed)
    net = _net(dimension, classes)
    return [parameter.detach().numpy().copy() for parameter in net.parameters()]


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
