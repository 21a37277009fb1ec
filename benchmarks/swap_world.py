"""What the swap benchmark runs on: a workspace with two trained versions, and what each of them says to each text."""

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from benchmarks.settings_file import write_settings
from perennial.continual.arrays import softmax
from perennial.continual.preparation import split_of
from perennial.continual.records import Example
from perennial.exporters.bundle import read_manifest, write_manifest
from perennial.exporters.text_classification.classifier import BundleClassifier
from perennial.exporters.text_classification.signature import LABEL, TEXT
from perennial.ops.commands.first_version import first_version
from perennial.ops.demo.grammar import FIRST_INTENTS, WAVES, RequestGrammar
from perennial.ops.ledger import Ledger, VersionRow, VersionState, version_card
from perennial.ops.making.version_maker import VersionMaker
from perennial.ops.serving.repository import ModelRepository
from perennial.ops.settings import load_settings
from perennial.ops.store.workspace import Workspace

__all__ = ["MODEL", "TEXT_WORLD", "Table", "World", "make_workspace", "publish_copy", "spoken_table"]

MODEL = "intent"
_MARGIN = 0.1  # texts that a version is less sure of are not asked: another batch could turn its answer round
_TOML = """
[triton]
grpc_port = {grpc}
http_port = {http}
metrics_port = {metrics}
engine_threads = 1
keep_after_control_dies = false
[api]
port = {api}
[schedule]
watch_s = 86400.0
[models.intent.engine]
engine = "openvino"
precision = "fp32"  # the same engine on every machine
[models.intent.cycle]
probation_s = 0.0
[models.intent.policy]
kind = "label_count"
at_least = 1000000
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """`labels_of_version[version][i]` is the label, as a place in `labels`, that a version gives to text i."""

    texts: list[str]
    labels: list[str]
    labels_of_version: dict[int, list[int]]


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """A task to swap under: its model, the tensors of a request, how its workspace is made, and who says what.

    `make(folder, rows)` gives the settings' path; `table(workspace, versions, texts)` asks the bundles themselves.
    """

    model: str
    asks: str
    says: str
    make: Callable[[Path, int], Path]
    table: Callable[[Workspace, Sequence[int], int], Table]


def make_workspace(folder: Path, rows: int) -> Path:
    """Write the settings on free ports; train both versions, unless an earlier run left them. Returns the settings."""
    config = write_settings(folder, _TOML)
    workspace = Workspace(load_settings(config))
    with Ledger.open(workspace.settings.ledger_address) as ledger:
        if ledger.route(MODEL) is None:
            first_version(ledger, workspace, MODEL, _examples(FIRST_INTENTS, rows, seed=1))
        if not workspace.bundle(MODEL, 2).is_dir():
            _second_version(ledger, workspace, rows)
    shutil.rmtree(workspace.traffic(MODEL), ignore_errors=True)
    return config


def _examples(intents: Sequence[str], rows: int, seed: int) -> list[Example]:
    now = datetime.now(UTC)
    drawn = RequestGrammar(seed).draw_many(intents, rows)
    return [Example(text=request.text, label=request.intent, at=now) for request in drawn]


def _second_version(ledger: Ledger, workspace: Workspace, rows: int) -> None:
    """A version that knows six intents more, by the loop's own steps."""
    champion = ledger.version(MODEL, 1)
    ledger.add_examples(MODEL, _examples(WAVES[0], rows // 2, seed=2), lambda text: split_of(text, holdout_share=0.1))
    if all(row.version != 2 for row in ledger.versions(MODEL)):
        ledger.add_version(VersionRow(model=MODEL, version=2, parent=1, learner="kernel_lda", lineage={}))
    maker = VersionMaker(ledger, workspace, MODEL)
    training = maker.rows.training_rows(champion)
    maker.train(2, champion, training, lambda _: None)
    maker.export(2, champion, training, None, lambda _: None)
    maker.publish(2)
    labels = tuple(json.loads((workspace.bundle(MODEL, 2) / "labels.json").read_text(encoding="utf-8")))
    ledger.set_version_state(MODEL, 2, VersionState.PUBLISHED, card=version_card(labels=labels))


def spoken_table(workspace: Workspace, versions: Sequence[int], texts: int) -> Table:
    """Ask the bundles themselves, without any server.

    Short texts, so that the engine is not all that is measured, and only those of which every version is sure.
    """
    grammar = RequestGrammar(3)
    pools = [sorted((r.text for r in grammar.draw_many(s, 6 * texts)), key=len) for s in (FIRST_INTENTS, WAVES[0])]
    both = zip(*pools, strict=False)
    candidates = [text for pair in both for text in pair][: 2 * texts]  # the second version alone knows every other one
    labels: list[str] = []
    labels_of_version: dict[int, list[int]] = {}
    sure = np.ones(len(candidates), dtype=bool)
    for version in versions:
        bundle = BundleClassifier.load(workspace.bundle(MODEL, version), threads=2, cache_dir=workspace.cache)
        predicted = bundle.predict(candidates)
        labels += [label for label in bundle.labels if label not in labels]
        labels_of_version[version] = [labels.index(label) for label in predicted.labels]
        best = np.sort(softmax(predicted.logits), axis=1)
        sure &= best[:, -1] - best[:, -2] > _MARGIN
    kept = np.flatnonzero(sure)[:texts]
    return Table(
        texts=[candidates[i] for i in kept],
        labels=labels,
        labels_of_version={version: [codes[i] for i in kept] for version, codes in labels_of_version.items()},
    )


def publish_copy(workspace: Workspace, model: str, source: int, version: int) -> None:
    """The same weights under another version number: a version that Triton has to load anew."""
    repository = ModelRepository(workspace.repository)
    engine = workspace.engine_model(model)
    if version in repository.versions(engine):
        return
    staged = repository.staging / f"copy-{version}"
    shutil.rmtree(staged, ignore_errors=True)
    shutil.copytree(workspace.bundle(model, source), staged)
    write_manifest(staged, replace(read_manifest(staged), version=version))
    repository.publish(staged, engine, version)


TEXT_WORLD = World(model=MODEL, asks=TEXT, says=LABEL, make=make_workspace, table=spoken_table)
