"""FedAvg by Flower as its users run it: a link, a node for each site, and messages between them over HTTP.

Flower pins older releases of packages that this project stands on, so that it lives in an environment of its own.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.federation_data import Split
from benchmarks.serving_rivals import CACHE
from perennial.ops.serving.processes import end_group, free_port

__all__ = ["FLOWER", "averaged_by_flower"]

FLOWER = "1.42.0"
_PEERS = Path(__file__).parent / "federation_peers"
_STARTS_S, _LASTS_S, _ENDS_S = 60.0, 1800.0, 5.0
_APP = """
[project]
name = "averaging"
version = "1.0.0"
description = "FedAvg of a linear head"
license = "Apache-2.0"
dependencies = ["flwr=={flower}"]

[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[tool.flwr.app]
publisher = "benchmark"

[tool.flwr.app.components]
serverapp = "averaging.server:app"
clientapp = "averaging.client:app"

[tool.flwr.app.config]
rows = ""
out = ""
rate = 1.0
rounds = 1
"""
_LINK = '[superlink]\ndefault = "here"\n\n[superlink.here]\naddress = "{address}"\ninsecure = true\n'


def averaged_by_flower(
    split: Split, parts: Sequence[NDArray[np.intp]], rounds: Sequence[int], rate: float
) -> dict[str, Any]:
    """Percent right after so many rounds, the seconds of them all, and the bytes of weights that a site has sent."""
    programs = _environment().parent
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _write_rows(folder / "rows.npz", split, parts)
        shutil.copytree(_PEERS, folder / "app" / "averaging", ignore=shutil.ignore_patterns("__pycache__"))
        (folder / "app" / "averaging" / "__init__.py").touch()
        (folder / "app" / "pyproject.toml").write_text(_APP.format(flower=FLOWER), encoding="utf-8")
        told = folder / "told.json"
        given = {"rows": str(folder / "rows.npz"), "out": str(told), "rate": rate, "rounds": max(rounds)}
        with _running(programs, folder, sites=len(parts)) as environment:
            config = " ".join(f"{key}={json.dumps(value)}" for key, value in given.items())
            command = [str(programs / "flwr"), "run", str(folder / "app"), "here", "--stream", "--run-config", config]
            with (folder / "run.log").open("wb") as log:
                subprocess.run(command, env=environment, stdout=log, stderr=log, timeout=_LASTS_S, check=False)
        if not told.is_file():
            sys.exit("Flower's run ended without a figure:\n" + (folder / "run.log").read_text("utf-8")[-3_000:])
        found = json.loads(told.read_text("utf-8"))
    return {
        "flower": FLOWER,
        "rate": rate,
        "after_rounds": {number: found["right"][str(number)] for number in rounds},
        "seconds": found["seconds"],
        "bytes_sent_by_a_site": found["bytes"],
    }


def _write_rows(path: Path, split: Split, parts: Sequence[NDArray[np.intp]]) -> None:
    labels = np.unique(split.train.labels)
    site = np.empty(len(split.train), dtype=np.intp)
    for number, rows in enumerate(parts):
        site[rows] = number
    X, test = (
        np.concatenate([rows.X, np.ones((len(rows), 1), dtype=np.float32)], axis=1)
        for rows in (split.train, split.test)
    )
    y, test_y = (np.searchsorted(labels, rows.labels) for rows in (split.train, split.test))
    np.savez(path, X=X, y=y, site=site, test_X=test, test_y=test_y)


def _environment() -> Path:
    """The Python of an environment with Flower, which is made on the first call."""
    folder = CACHE / "flower"
    python, done = folder / "bin" / "python", folder / "installed"
    wanted = f"flwr=={FLOWER}"
    if not done.is_file() or done.read_text("utf-8") != wanted:
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", wanted], check=True)
        done.write_text(wanted, encoding="utf-8")
    return python


@contextmanager
def _running(programs: Path, folder: Path, *, sites: int) -> Iterator[dict[str, str]]:
    """A link and a node for each site; what `flwr` is to be run with."""
    port, home = free_port(), folder / "home"
    address = f"127.0.0.1:{port}"
    home.mkdir()
    (home / "config.toml").write_text(_LINK.format(address=address), encoding="utf-8")
    environment = {
        **os.environ,
        "PATH": f"{programs}:{os.environ['PATH']}",
        "FLWR_HOME": str(home),
        "FLWR_TELEMETRY_ENABLED": "0",
        "OMP_NUM_THREADS": "1",
    }
    link = [str(programs / "flower-superlink"), "--insecure", "--disable-runtime-dependency-installation"]
    node = [str(programs / "flower-supernode"), "--insecure", "--superlink", address]
    commands = [[*link, "--port", str(port)]]
    commands += [[*node, "--port", str(free_port()), "--node-config", f"site={site}"] for site in range(sites)]
    running: list[subprocess.Popen[bytes]] = []
    try:
        with (folder / "link.log").open("wb") as log:
            for command in commands:
                running.append(
                    subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
                )
                if len(running) == 1:
                    _wait_for(folder / "link.log", b"startup complete", running[0])
            yield environment
    finally:
        for process in reversed(running):
            end_group(process.pid, grace_s=_ENDS_S)


def _wait_for(log: Path, word: bytes, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + _STARTS_S
    while word not in log.read_bytes():
        if process.poll() is not None or time.monotonic() > end:
            sys.exit("Flower's link did not start:\n" + log.read_text("utf-8")[-3_000:])
        time.sleep(0.2)
