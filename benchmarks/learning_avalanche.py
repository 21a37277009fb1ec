"""Avalanche's side of the learning benchmark: its environment, its runs, and its scores read back."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.learning_arms import Update
from benchmarks.learning_data import Frozen
from benchmarks.learning_network import BATCH, EPOCHS, RATE, first_weights

__all__ = ["environment", "plan", "read", "run"]

_REQUIREMENTS = ("torch==2.13.0", "numpy<2", "avalanche-lib==0.6.0")
_SCRIPT = Path(__file__).with_name("avalanche_arms.py")
_WITH_BUFFER = ("class_balanced_replay", "der", "gdumb")
_WITHOUT_BUFFER = ("streaming_lda", "cumulative")


def environment(folder: Path) -> Path:
    """Return the Python of a virtual environment that has Avalanche, made on the first call (minutes)."""
    python = folder / "bin" / "python"
    ready = folder / ".ready"
    if not ready.exists():
        print(f"installing Avalanche 0.6.0 into {folder}", file=sys.stderr, flush=True)
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "-q", *_REQUIREMENTS], check=True)
        ready.write_text("\n".join(_REQUIREMENTS) + "\n")
    return python


def plan(
    orders: Sequence[Sequence[int]], budgets: Sequence[int], per_update: int, *, quick: bool
) -> list[dict[str, Any]]:
    """Return the runs, the published order first."""
    runs = []
    for number, classes in enumerate(orders):
        arms = [(arm, rows) for arm in _WITH_BUFFER for rows in budgets] + [(arm, 0) for arm in _WITHOUT_BUFFER]
        if quick:
            arms = [("class_balanced_replay", budgets[-1]), ("streaming_lda", 0)]
        for arm, rows in arms:
            runs.append(
                {
                    "name": f"{arm}-{rows}-order{number}",
                    "arm": arm,
                    "buffer_rows": rows,
                    "order": number,
                    "classes": list(classes),
                    "per_update": per_update,
                    "seed": number,
                }
            )
    return runs


def run(python: Path, data: Frozen, runs: Sequence[dict[str, Any]], cache: Path, *, missing: bool = True) -> Path:
    """Run what the cache lacks, two processes of one thread each, and return the folder of results.

    With `missing` false nothing is run.
    """
    inputs: dict[str, Any] = {"x_train": data.x_train, "y_train": data.y_train, "x_test": data.x_test}
    for seed in sorted({run["seed"] for run in runs}):
        for i, value in enumerate(first_weights(data.x_train.shape[1], len(data.labels), seed)):
            inputs[f"w{i}_seed{seed}"] = value
    spec = {"epochs": EPOCHS, "batch": BATCH, "rate": RATE, "der_alpha": 0.5, "der_beta": 1.0}
    out = cache / f"avalanche-{_digest(spec, inputs, runs[0]['per_update'])}"
    out.mkdir(parents=True, exist_ok=True)
    if not missing:
        return out
    np.savez(out / "inputs.npz", **inputs)
    halves = []
    for part in range(2):
        path = out / f"spec{part}.json"
        path.write_text(json.dumps({**spec, "data": str(out / "inputs.npz"), "runs": runs[part::2]}))
        halves.append([str(python), str(_SCRIPT), str(path), str(out)])
    quiet = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    with ThreadPoolExecutor(2) as pool:
        for done in pool.map(lambda command: subprocess.run(command, env=quiet, check=False), halves):
            done.check_returncode()
    return out


def _digest(spec: dict[str, Any], inputs: dict[str, Any], per_update: int) -> str:
    """Name what the runs are made from: the rows that Avalanche reads, the settings and the versions."""
    key = hashlib.sha256(json.dumps([spec, _REQUIREMENTS, per_update]).encode())
    for name in ("x_train", "y_train", "x_test"):
        key.update(np.ascontiguousarray(inputs[name]).tobytes())
    return key.hexdigest()[:16]


def read(folder: Path, run: dict[str, Any]) -> Iterator[Update]:
    """Yield one run's updates."""
    with np.load(folder / f"{run['name']}.npz") as found:
        for scores, seconds, steps in zip(found["scores"], found["seconds"], found["steps"], strict=True):
            yield Update(scores=scores.astype(np.float32), seconds=float(seconds), steps=int(steps))
