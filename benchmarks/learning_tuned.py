"""The arms of the learning benchmark with a tuned encoder: the slow learner, first-session tuning, pre-training.

Each yields the scores on all test rows after every update, like the arms on the frozen encoder. They are run on the
published order only: an update costs minutes.
"""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.learning_arms import Tuned, Update, updates_of
from benchmarks.learning_data import Frozen
from continual.learning.calibration import places_of
from continual.learning.context import Context
from continual.learning.encoder import Encoder, resolve_encoder
from continual.learning.finetune import train_slow
from continual.learning.fourier import FourierFeatures
from continual.learning.kernel_lda import KernelLda
from continual.learning.pretraining import Pretraining, pretrain
from continual.learning.rows import write_rows
from continual.learning.spec import JobSpec, Learner
from continual.records import Example
from continual.replay import BufferKind, make_buffer

__all__ = ["Adapted", "closed_form_on", "finetuned", "first_session", "pretrained", "rebuilt_heads"]

Embeddings = NDArray[np.float32]


class Adapted:
    """An encoder's embeddings of the benchmark's rows, made when asked for and kept on disk."""

    def __init__(self, data: Frozen, tests: Sequence[str], encoder: Path, cache: Path) -> None:
        self._texts = {"train": [row.text for row in data.train], "test": list(tests)}
        self._encoder, self._cache = encoder, cache
        cache.mkdir(parents=True, exist_ok=True)

    def of(self, part: str) -> Embeddings:
        """(rows, d) of `train` or `test`."""
        path = self._cache / f"{part}.npy"
        if not path.exists():
            partial = path.with_suffix(".partial.npy")
            np.save(partial, Encoder.load(str(self._encoder), threads=1).embed(self._texts[part]))
            partial.replace(path)
        found: Embeddings = np.load(path)
        return found


def closed_form_on(
    data: Frozen, adapted: Adapted, order: Sequence[int], per_update: int, how: Tuned
) -> Iterator[Update]:
    """A kernel LDA on another encoder's embeddings, no stored rows: what the fast learner makes of it."""
    X, X_test = adapted.of("train"), adapted.of("test")
    head = KernelLda(FourierFeatures.make(dimension=X.shape[1], features=3000, gamma=0.5, seed=0))
    for classes in updates_of(order, per_update):
        start = time.perf_counter()
        rows = np.flatnonzero(np.isin(data.y_train, classes))
        head.add(X[rows], [data.train[row].label for row in rows])
        weights = head.solve(shrinkage=how.shrinkage, temperature=how.temperature)
        seconds = time.perf_counter() - start
        scores = _in_published_order(weights.logits(X_test), weights.labels, data.labels)
        yield Update(scores=scores, seconds=seconds, steps=1)


def pretrained(data: Frozen, folder: Path, epochs: int = 1) -> tuple[Path, dict[str, Any]]:
    """The encoder after guessing masked words of all training texts, labels unseen; its folder and what it took."""
    out, began = folder / f"pretrained-{epochs}", time.process_time()
    source = resolve_encoder("packaged:minilm")
    pretrain(
        source, [row.text for row in data.train], out, Pretraining(epochs=epochs), max_length=128, context=Context()
    )
    told = json.loads((out / "pretrained.json").read_bytes())
    kept = {name: told[name] for name in ("texts", "steps", "first_loss", "last_loss")}
    return out, {**kept, "cpu_seconds": time.process_time() - began}


def first_session(
    data: Frozen, order: Sequence[int], per_update: int, folder: Path, params: dict[str, Any]
) -> tuple[Path, dict[str, Any]]:
    """The encoder tuned on the first update's rows only and frozen from then on."""
    rows = _rows_of(data, order[:per_update])
    out, began = folder / "first-session", time.process_time()
    if not (out / "model.json").is_file():
        write_rows(folder / "first.jsonl", rows)
        train_slow(_spec(folder / "first.jsonl", out, {"strategy": "naive", "head": "linear", **params}), Context())
    return out / "encoder", {"rows": len(rows), "cpu_seconds": time.process_time() - began}


def finetuned(
    data: Frozen,
    tests: Sequence[str],
    order: Sequence[int],
    per_update: int,
    *,
    rows: int,
    folder: Path,
    params: dict[str, Any],
) -> Iterator[Update]:
    """The slow learner's job, update after update, rehearsing `rows` class-balanced rows; the network's own head."""
    buffer = make_buffer(BufferKind.CLASS_BALANCED, rows, 0)
    previous: Path | None = None
    for number, classes in enumerate(updates_of(order, per_update)):
        fresh = _rows_of(data, classes)
        write_rows(folder / f"fresh-{number}.jsonl", fresh)
        write_rows(folder / f"replay-{number}.jsonl", buffer.rows())
        out = folder / f"update-{number}"
        start, began = time.perf_counter(), time.process_time()
        if not (out / "model.json").is_file():
            spec = _spec(folder / f"fresh-{number}.jsonl", out, {"head": "linear", **params})
            encoder = spec.encoder if previous is None else str(previous / "encoder")
            train_slow(
                replace(spec, encoder=encoder, previous=previous, replay=folder / f"replay-{number}.jsonl"), Context()
            )
        seconds, spent = time.perf_counter() - start, time.process_time() - began
        for row in fresh:
            buffer.offer(row)
        X = Adapted(data, tests, out / "encoder", out / "embedded").of("test")
        labels, weight, bias = _linear_head(out)
        scores = _in_published_order(X @ weight.T + bias, labels, data.labels)
        previous = out
        yield Update(scores=scores, seconds=seconds, steps=0, cpu_seconds=spent)


def rebuilt_heads(data: Frozen, frozen_test: Embeddings, adapted: Adapted, folder: Path, last: int) -> dict[str, Any]:
    """What it costs that old rows outside the buffer can't be embedded again after the last tuning, in test accuracy.

    A kernel head is built from the replay and the fresh rows, and from all rows; on the tuned and the frozen encoder.
    """
    held = {
        json.loads(line)["text"]
        for name in (f"replay-{last}.jsonl", f"fresh-{last}.jsonl")
        for line in (folder / name).read_text(encoding="utf-8").splitlines()
    }
    some = np.array([row.text in held for row in data.train])
    found: dict[str, Any] = {"rows_at_hand": int(some.sum()), "rows_in_all": len(some)}
    spaces: dict[str, tuple[Callable[[], Embeddings], Callable[[], Embeddings]]] = {
        "frozen": (lambda: data.x_train, lambda: frozen_test),
        "tuned": (lambda: adapted.of("train"), lambda: adapted.of("test")),
    }
    for space, (train, test) in spaces.items():
        X, X_test = train(), test()
        for name, chosen in (("rows_at_hand", some), ("all_rows", np.ones(len(some), dtype=bool))):
            head = KernelLda(FourierFeatures.make(dimension=X.shape[1], features=3000, gamma=0.5, seed=0))
            head.add(X[chosen], [row.label for row, kept in zip(data.train, chosen, strict=True) if kept])
            weights = head.solve(shrinkage=3e-6 if chosen.all() else 1e-4)
            answers = _in_published_order(weights.logits(X_test), weights.labels, data.labels).argmax(axis=1)
            found[f"{space}_encoder_{name}"] = 100 * float((answers == data.y_test).mean())
    return found


def _spec(examples: Path, out: Path, params: dict[str, Any]) -> JobSpec:
    return JobSpec(
        learner=Learner.FINETUNE, examples=examples, out=out, cache=out.parent / "embeddings", threads=1, params=params
    )


def _rows_of(data: Frozen, classes: Sequence[int]) -> list[Example]:
    wanted = set(classes)
    return [row for row, truth in zip(data.train, data.y_train, strict=True) if truth in wanted]


def _linear_head(folder: Path) -> tuple[tuple[str, ...], NDArray[np.float32], NDArray[np.float32]]:
    from safetensors.numpy import load_file

    tensors = load_file(folder / "head.safetensors")
    labels = tuple(json.loads((folder / "model.json").read_text(encoding="utf-8"))["labels"])
    return labels, tensors["weight"], tensors["bias"]


def _in_published_order(
    logits: NDArray[np.floating[Any]], labels: Sequence[str], published: Sequence[str]
) -> NDArray[np.float32]:
    """(rows, classes) with -inf for classes that the head doesn't know."""
    scores = np.full((len(logits), len(published)), -np.inf, dtype=np.float32)
    scores[:, places_of(labels, published)] = logits
    return scores
