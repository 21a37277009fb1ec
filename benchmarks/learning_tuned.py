"""The arms of the learning benchmark with a tuned encoder: the slow learner, first-session tuning, pre-training.

Each yields the scores on all test rows after every update, like the arms on the frozen encoder. They are run on the
published order only: an update costs minutes.
"""

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.learning_arms import Tuned, Update, updates_of
from benchmarks.learning_data import Frozen
from perennial.continual.atomic_file import written_whole
from perennial.continual.learning.calibration import places_of
from perennial.continual.learning.card import is_finished, read_card
from perennial.continual.learning.class_sums import ClassRows
from perennial.continual.learning.context import Context
from perennial.continual.learning.encoder import PACKAGED_MINILM, Encoder, resolve_encoder
from perennial.continual.learning.finetune import train_slow
from perennial.continual.learning.fourier import FourierFeatures
from perennial.continual.learning.kernel_lda import Discriminant, KernelLda
from perennial.continual.learning.names import LearnerName
from perennial.continual.learning.pretraining import Pretraining, pretrain
from perennial.continual.learning.rows import write_rows
from perennial.continual.learning.spec import JobSpec
from perennial.continual.learning.trainer import Schedule
from perennial.continual.records import Example
from perennial.continual.replay import BufferKind, make_buffer

__all__ = ["TunedArm", "rebuilt_heads", "tuned_arms", "work_folder"]

Embeddings = NDArray[np.float32]
_FIRST: dict[str, Any] = {"strategy": "naive", "head": "linear", "epochs": 3, "learning_rate": 1e-4}
_REHEARSED: dict[str, Any] = {"strategy": "replay", "head": "linear", "epochs": 3}
_ROWS = 770
_PRETRAINING_EPOCHS = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class TunedArm:
    """One run: its updates, and what is to be known of it beside them."""

    name: str
    rows: int
    updates: list[Update]
    about: dict[str, Any]


def work_folder(cache: Path, digest: str) -> Path:
    """Where encoders and embeddings of these arms are kept, by the data and the settings that made them."""
    made_from = json.dumps([digest, _FIRST, _REHEARSED, _ROWS, _PRETRAINING_EPOCHS], sort_keys=True)
    return cache / f"tuned-{hashlib.sha256(made_from.encode()).hexdigest()[:16]}"


def tuned_arms(
    data: Frozen, tests: Sequence[str], order: Sequence[int], per_update: int, folder: Path, how: Tuned
) -> Iterator[TunedArm]:
    """Every arm in turn; about half an hour on one core, and seconds where the folder holds the encoders."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, make in (
        ("kernel_lda_pretrained", _pretrained),
        ("kernel_lda_first_session", partial(_first_session, order=order, per_update=per_update)),
    ):
        encoder, about = make(data, folder=folder / name)
        adapted = Adapted(data, tests, encoder, folder / name / "embedded")
        updates = list(_closed_form_on(data, adapted, order, per_update, how))
        yield TunedArm(name=name, rows=0, updates=updates, about=about)
    rehearsed = list(_finetuned(data, tests, order, per_update, folder=folder / "finetune"))
    yield TunedArm(name="finetune_replay", rows=_ROWS, updates=rehearsed, about={"params": _REHEARSED})


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
            embeddings = Encoder.load(str(self._encoder), threads=1).embed(self._texts[part])
            with written_whole(path) as temporary, temporary.open("wb") as file:
                np.save(file, embeddings)
        found: Embeddings = np.load(path)
        return found


def _closed_form_on(
    data: Frozen, adapted: Adapted, order: Sequence[int], per_update: int, how: Tuned
) -> Iterator[Update]:
    """A kernel LDA on another encoder's embeddings, no stored rows: what the fast learner makes of it."""
    X, X_test = adapted.of("train"), adapted.of("test")
    head = KernelLda(FourierFeatures.make(dimension=X.shape[1], features=3000, gamma=0.5, seed=0))
    for classes in updates_of(order, per_update):
        start = time.perf_counter()
        rows = np.flatnonzero(np.isin(data.y_train, classes))
        head.add(ClassRows(X=X[rows], labels=[data.train[row].label for row in rows]))
        weights = head.solve(Discriminant(shrinkage=how.shrinkage, temperature=how.temperature))
        seconds = time.perf_counter() - start
        scores = _in_published_order(weights.logits(X_test), weights.labels, data.labels)
        yield Update(scores=scores, seconds=seconds, steps=1)


def _pretrained(data: Frozen, *, folder: Path) -> tuple[Path, dict[str, Any]]:
    """The encoder after guessing masked words of all training texts, labels unseen; its folder and what it took."""
    texts, settings = [row.text for row in data.train], Pretraining(epochs=_PRETRAINING_EPOCHS)
    out = folder / "encoder"
    pretrain(resolve_encoder(PACKAGED_MINILM), texts, out, settings, max_length=128, context=Context())
    document = json.loads((out / "pretrained.json").read_bytes())
    return out, {name: document[name] for name in ("texts", "steps", "first_loss", "last_loss")}


def _first_session(data: Frozen, *, order: Sequence[int], per_update: int, folder: Path) -> tuple[Path, dict[str, Any]]:
    """The encoder tuned on the first update's rows only and frozen from then on."""
    rows, out = _rows_of(data, order[:per_update]), folder / "trained"
    if not is_finished(out):
        folder.mkdir(parents=True, exist_ok=True)
        write_rows(folder / "first.jsonl", rows)
        train_slow(_spec(folder / "first.jsonl", out, _FIRST), Context())
    return out / "encoder", {"rows": len(rows), "params": _FIRST}


def _finetuned(
    data: Frozen, tests: Sequence[str], order: Sequence[int], per_update: int, *, folder: Path
) -> Iterator[Update]:
    """The slow learner's job, update after update, rehearsing class-balanced rows; the network's own head answers."""
    folder.mkdir(parents=True, exist_ok=True)
    buffer = make_buffer(BufferKind.CLASS_BALANCED, _ROWS, 0)
    previous: Path | None = None
    for number, classes in enumerate(updates_of(order, per_update)):
        fresh = _rows_of(data, classes)
        write_rows(folder / f"fresh-{number}.jsonl", fresh)
        write_rows(folder / f"replay-{number}.jsonl", buffer.rows())
        out = folder / f"update-{number}"
        took = out / "seconds.json"
        if not is_finished(out):
            start, began = time.perf_counter(), time.process_time()
            spec = _spec(folder / f"fresh-{number}.jsonl", out, _REHEARSED)
            encoder = spec.encoder if previous is None else str(previous / "encoder")
            spec = replace(spec, encoder=encoder, previous=previous, replay=folder / f"replay-{number}.jsonl")
            train_slow(spec, Context())
            took.write_text(json.dumps([time.perf_counter() - start, time.process_time() - began]), encoding="utf-8")
        seconds, spent = json.loads(took.read_text(encoding="utf-8"))
        for row in fresh:
            buffer.offer(row)
        X = Adapted(data, tests, out / "encoder", out / "embedded").of("test")
        labels, weight, bias = _linear_head(out)
        scores = _in_published_order(X @ weight.T + bias, labels, data.labels)
        previous = out
        yield Update(scores=scores, seconds=seconds, steps=_steps(len(fresh)), cpu_seconds=spent)


def _steps(rows: int) -> int:
    return Schedule(epochs=int(_REHEARSED["epochs"])).steps(rows)


def rebuilt_heads(data: Frozen, tests: Sequence[str], folder: Path, updates: int) -> dict[str, Any]:
    """What it costs that old rows outside the buffer can't be embedded again after the last tuning, in test accuracy.

    A kernel head is built from the replay and the fresh rows, and from all rows; on the tuned and the frozen encoder.
    """
    last, folder = updates - 1, folder / "finetune"
    adapted = Adapted(data, tests, folder / f"update-{last}" / "encoder", folder / f"update-{last}" / "embedded")
    held = {
        json.loads(line)["text"]
        for name in (f"replay-{last}.jsonl", f"fresh-{last}.jsonl")
        for line in (folder / name).read_text(encoding="utf-8").splitlines()
    }
    some = np.array([row.text in held for row in data.train])
    found: dict[str, Any] = {"rows_at_hand": int(some.sum()), "rows_in_all": len(some)}
    spaces: dict[str, tuple[Callable[[], Embeddings], Callable[[], Embeddings]]] = {
        "frozen": (lambda: data.x_train, lambda: data.x_test),
        "tuned": (lambda: adapted.of("train"), lambda: adapted.of("test")),
    }
    for space, (train, test) in spaces.items():
        X, X_test = train(), test()
        for name, chosen in (("rows_at_hand", some), ("all_rows", np.ones(len(some), dtype=bool))):
            head = KernelLda(FourierFeatures.make(dimension=X.shape[1], features=3000, gamma=0.5, seed=0))
            head.add(
                ClassRows(X=X[chosen], labels=[row.label for row, kept in zip(data.train, chosen, strict=True) if kept])
            )
            weights = head.solve(Discriminant(shrinkage=3e-6 if chosen.all() else 1e-4))
            answers = _in_published_order(weights.logits(X_test), weights.labels, data.labels).argmax(axis=1)
            found[f"{space}_encoder_{name}"] = 100 * float((answers == data.y_test).mean())
    return found


def _spec(examples: Path, out: Path, params: dict[str, Any]) -> JobSpec:
    return JobSpec(
        learner=LearnerName.FINETUNE,
        examples=examples,
        out=out,
        cache=out.parent / "embeddings",
        threads=1,
        params=params,
    )


def _rows_of(data: Frozen, classes: Sequence[int]) -> list[Example]:
    wanted = set(classes)
    return [row for row, truth in zip(data.train, data.y_train, strict=True) if truth in wanted]


def _linear_head(folder: Path) -> tuple[tuple[str, ...], NDArray[np.float32], NDArray[np.float32]]:
    from safetensors.numpy import load_file

    tensors = load_file(folder / "head.safetensors")
    labels = read_card(folder).labels
    return labels, tensors["weight"], tensors["bias"]


def _in_published_order(
    logits: NDArray[np.floating[Any]], labels: Sequence[str], published: Sequence[str]
) -> NDArray[np.float32]:
    """(rows, classes) with -inf for classes that the head doesn't know."""
    scores = np.full((len(logits), len(published)), -np.inf, dtype=np.float32)
    scores[:, places_of(labels, published)] = logits
    return scores
