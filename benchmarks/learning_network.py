"""The arms of the learning benchmark that train a network, and how they were tuned."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.learning_arms import Tuned, Update, blend, kernel_lda, updates_of
from benchmarks.learning_data import Frozen
from continual.learning.fourier import FourierFeatures
from continual.replay import make_buffer

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
]

EPOCHS, BATCH, RATE = 10, 32, 1e-3  # the same for Avalanche's arms


@dataclass(frozen=True, slots=True, kw_only=True)
class Rehearsal:
    """How a network rehearses: what the hold-out of a sixth class order chose, see `tune_rehearsal`.

    `logits_weight` pulls replayed rows to the logits they had when their update ended, over the classes known then
    (DER); with `apart`, fresh rows compete only with the classes of their own update, so that they don't push the old
    classes down (ER-ACE).
    """

    logits_weight: float = 0.0
    labels_weight: float = 1.0
    apart: bool = False


def tune_rehearsal(
    data: Frozen, per_update: int, rows: int, features: FourierFeatures, tuned: Tuned
) -> tuple[Rehearsal, float, dict[str, float]]:
    """Choose how to rehearse, and the network's share beside a kernel LDA; also what was tried, in percent.

    By final accuracy on 15% of the training rows, in a class order of its own; the test set isn't used.
    """
    order = np.random.default_rng(5).permutation(len(data.labels)).tolist()
    part = held_out_as_test(data, np.random.default_rng(5).random(len(data.y_train)) < 0.15)
    tried: dict[str, float] = {}
    best, chosen, updates = -1.0, Rehearsal(), list[Update]()
    for weight in (0.0, 0.1, 0.5):
        for apart in (False, True):
            candidate = Rehearsal(logits_weight=weight, apart=apart)
            ran = list(rehearsed_mlp(part, order, per_update, kind="class_balanced", rows=rows, seed=5, how=candidate))
            found = tried[f"logits {weight:g}, apart {apart}"] = final_accuracy(ran[-1], part)
            if found > best:
                best, chosen, updates = found, candidate, ran
    closed = list(kernel_lda(part, order, len(order), features, tuned))[-1:]
    shares = {
        share: final_accuracy(next(blend(closed, updates[-1:], share)), part) for share in (0.0, 0.1, 0.2, 0.3, 0.4)
    }
    tried |= {f"share {share:g}": found for share, found in shares.items()}
    return chosen, max(shares, key=lambda share: shares[share]), tried


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
    known: list[int] = []
    for classes in updates_of(order, per_update):
        start, began, steps = time.perf_counter(), time.process_time(), 0
        fresh = np.flatnonzero(np.isin(data.y_train, classes))
        stored = np.array([row_of[example.text] for example in buffer.rows()], dtype=np.int64)
        rivals = torch.full((len(data.labels),), -torch.inf if how.apart else 0.0)
        rivals[list(classes)] = 0.0
        net.train()
        for _ in range(EPOCHS):
            replayed = _endless(stored, rng)
            shuffled = rng.permutation(fresh)
            for first_row in range(0, len(shuffled), BATCH):
                new, old = shuffled[first_row : first_row + BATCH], next(replayed)
                loss = _rehearsal_loss(net, x, y, (new, old), answers, rivals, how)
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                steps += 1
        _fill(buffer, data, fresh, net, x)
        known += classes
        net.eval()
        with torch.no_grad():
            entered = [row for example in buffer.rows() if answers[row := row_of[example.text]].isnan().all()]
            logits = net(x[entered])
            for column in known:
                answers[entered, column] = logits[:, column]
            seconds, spent = time.perf_counter() - start, time.process_time() - began
            yield Update(scores=net(x_test).numpy(), seconds=seconds, steps=steps, cpu_seconds=spent)


def _rehearsal_loss(net: Any, x: Any, y: Any, rows: tuple[Any, Any], answers: Any, rivals: Any, how: Rehearsal) -> Any:
    import torch

    new, old = rows
    logits = net(x[np.concatenate([new, old])])
    masks = torch.cat([rivals.expand(len(new), -1), torch.zeros(len(old), logits.shape[1])])
    losses = torch.nn.functional.cross_entropy(logits + masks, y[np.concatenate([new, old])], reduction="none")
    if how.logits_weight == 0.0 and how.labels_weight == 1.0 and not how.apart:
        return losses.mean()
    loss = losses[: len(new)].mean()
    if len(old):
        before = answers[old]
        stored = ~before.isnan()
        apart = ((logits[len(new) :] - before.nan_to_num()) * stored) ** 2
        loss = loss + how.labels_weight * losses[len(new) :].mean() + how.logits_weight * apart.sum() / stored.sum()
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
