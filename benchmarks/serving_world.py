"""What the serving benchmark runs on: a workspace as `perennial init` makes it, its model as several engines."""

import csv
import json
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.settings_file import write_settings
from perennial.exporters.bundle import read_manifest
from perennial.ops.settings import load_settings
from perennial.ops.store.workspace import Workspace

__all__ = ["ENGINES", "MODEL", "World", "further_versions", "make_world", "perennial", "set_resident"]

MODEL = "intent"
ENGINES = {"fp32": ("onnxruntime", "fp32"), "bf16": ("openvino", "bf16"), "int8": ("onnxruntime", "int8")}
_EVERY = 5  # training row: how good the model is matters little here
_ROOT = Path(__file__).parents[1]
_TOML = """
[triton]
grpc_port = {grpc}
http_port = {http}
metrics_port = {metrics}
[api]
port = {api}
[models.intent.cycle]
resident_versions = 2
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """`versions` has the number of the version that is such an engine; `auto` is the one that `init` chose.

    `texts` are in no order, as many callers' are.
    """

    config: Path
    workspace: Workspace
    versions: dict[str, int]
    texts: list[str]

    def bundle(self, engine: str) -> Path:
        """The folder of the version that is such an engine."""
        return self.workspace.bundle(MODEL, self.versions[engine])

    def told(self, engine: str) -> str:
        """What that version's engine is called, e.g. `openvino bf16`."""
        manifest = read_manifest(self.bundle(engine))
        return f"{manifest.engine.value} {manifest.precision.value}"


def make_world(folder: Path, data: Path, engines: Sequence[str]) -> World:
    """The workspace, made where an earlier run did not leave it. `data` has `train.csv` and `test.csv`."""
    config = folder / "perennial.toml"
    if not config.is_file():
        write_settings(folder, _TOML)
        rows = folder / "rows.csv"
        _write_rows(data / "train.csv", rows)
        perennial(config, "init", MODEL, "--data", str(rows))
    workspace = Workspace(load_settings(config))
    shutil.rmtree(workspace.traffic(MODEL), ignore_errors=True)
    versions = {"auto": 1}
    for name in engines:
        if name != "auto":
            versions[name] = _version_as(config, workspace, *ENGINES[name])
    texts = [row["text"] for row in _rows(data / "test.csv")]
    random.Random(0).shuffle(texts)  # they stand by class, and asked so they would be one drift after the other
    return World(config=config, workspace=workspace, versions=versions, texts=texts)


def perennial(config: Path, *words: str) -> str:
    """What a command prints.

    Raises:
        RuntimeError: it failed.
    """
    command = [sys.executable, "-m", "perennial.ops.cli", *words, "--config", str(config)]
    done = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"perennial {' '.join(words)} ended with {done.returncode}: {done.stderr[-2000:]}")
    return done.stdout


def set_resident(config: Path, count: int) -> None:
    """Have the server hold so many versions from the next promotion on."""
    text = config.read_text(encoding="utf-8")
    config.write_text(re.sub(r"resident_versions = \d+", f"resident_versions = {count}", text), encoding="utf-8")


def further_versions(world: World, engine: str, count: int) -> list[int]:
    """So many versions that are such an engine, the world's own first; what lacks is exported."""
    own, wanted = world.versions[engine], ENGINES[engine]
    others = [number for number in _versions_as(world.workspace, *wanted) if number != own]
    while len(others) < count - 1:
        others.append(_exported(world.config, world.workspace, *wanted))
    return [own, *others[: count - 1]]


def _numbers(workspace: Workspace) -> list[int]:
    folder = workspace.bundle(MODEL, 1).parent
    return sorted((int(path.name) for path in folder.iterdir() if path.name.isdigit()), reverse=True)


def _versions_as(workspace: Workspace, engine: str, precision: str) -> list[int]:
    manifests = {number: read_manifest(workspace.bundle(MODEL, number)) for number in _numbers(workspace)}
    return [n for n, each in manifests.items() if (each.engine.value, each.precision.value) == (engine, precision)]


def _version_as(config: Path, workspace: Workspace, engine: str, precision: str) -> int:
    there = _versions_as(workspace, engine, precision)
    return there[0] if there else _exported(config, workspace, engine, precision)


def _exported(config: Path, workspace: Workspace, engine: str, precision: str) -> int:
    """A new version, out of one that is another engine: the same one would be refused."""
    same = _versions_as(workspace, engine, precision)
    source = next((n for n in _numbers(workspace) if n not in same), None)
    if source is None:
        source = _exported(config, workspace, *next(kind for kind in ENGINES.values() if kind != (engine, precision)))
    words = ("export", str(source), "--engine", engine, "--precision", precision, "--model", MODEL)
    return int(json.loads(perennial(config, *words))["version"])


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _write_rows(source: Path, path: Path) -> None:
    rows = [(row["text"], row.get("label") or row["category"]) for row in _rows(source)[::_EVERY]]
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *rows])
