"""Finished runs of the learning benchmark's own arms, so that an interrupted benchmark goes on where it was."""

import hashlib
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import learning_arms, learning_network, learning_sums
from benchmarks.learning_arms import Update
from perennial.continual.atomic_file import write_atomically, written_whole
from perennial.continual.learning.strategies import derpp

__all__ = ["ArmCache"]


_SOURCES = (learning_arms, learning_network, learning_sums, derpp)


class ArmCache:
    """Updates of runs by what they were made from: data, settings, and the source of the arms."""

    def __init__(self, folder: Path, digest: str) -> None:
        self._folder = folder
        sources = [Path(str(module.__file__)).read_bytes() for module in _SOURCES]
        self._made_from = hashlib.sha256(b"".join([digest.encode(), *sources])).hexdigest()
        folder.mkdir(parents=True, exist_ok=True)

    def runs(self, name: str, about: dict[str, Any], make: Callable[[], Iterable[Update]]) -> list[Update]:
        """The updates of one run, made now or read back. Scores before the last update are kept in half precision."""
        path = self._path(name, about).with_suffix(".npz")
        if not path.exists():
            updates = list(make())
            with written_whole(path) as temporary, temporary.open("wb") as file:
                np.savez(
                    file,
                    scores=np.stack([update.scores.astype(np.float16) for update in updates]),
                    last=updates[-1].scores,
                    facts=np.array([[update.seconds, update.steps, update.cpu_seconds] for update in updates]),
                )
        with np.load(path) as found:
            scores = [*found["scores"][:-1].astype(np.float32), found["last"]]
            return [
                Update(scores=one, seconds=float(wall), steps=int(steps), cpu_seconds=float(cpu))
                for one, (wall, steps, cpu) in zip(scores, found["facts"], strict=True)
            ]

    def value(self, name: str, about: dict[str, Any], make: Callable[[], Any]) -> Any:
        """A plain value, made now or read back."""
        path = self._path(name, about).with_suffix(".json")
        if not path.exists():
            write_atomically(path, json.dumps(make()))
        return json.loads(path.read_text())

    def _path(self, name: str, about: dict[str, Any]) -> Path:
        key = hashlib.sha256(json.dumps([self._made_from, name, about], sort_keys=True).encode()).hexdigest()[:16]
        return self._folder / f"{name}-{key}"
