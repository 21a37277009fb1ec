"""What the swap benchmark runs on for a ranking: a workspace with two structures of one catalogue, and their lists."""

import json
import shutil
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from benchmarks.settings_file import write_settings
from benchmarks.swap_load import JOINT
from benchmarks.swap_world import Table, World
from perennial.continual.errors import ExportFailed, ParityFailed
from perennial.continual.jobs.errors import JobErrors
from perennial.continual.learning.card import ModelCard, is_finished
from perennial.continual.learning.ranking import Event, GramSettings, Item, ItemGram, ItemTexts, TrainedRanking
from perennial.exporters.bundle import Lineage, Manifest
from perennial.exporters.ranking.asked import Asked
from perennial.exporters.ranking.signature import ITEMS, USER
from perennial.ops.commands.first_version import begin_route, register
from perennial.ops.ledger import Ledger, VersionRow, VersionState, version_card
from perennial.ops.making.version_maker import EngineOrder, VersionMaker
from perennial.ops.serving.bundled import BundledVersion
from perennial.ops.serving.tasks.ranking import SIDE
from perennial.ops.settings import load_settings
from perennial.ops.store.user_events import UserEvents
from perennial.ops.store.workspace import Workspace

__all__ = ["RANKING_WORLD"]

MODEL = "shop"
_ITEMS, _TASTES, _LIKED = 2_000, 40, 12
_BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
_LEARNER = "item_gram"
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
[models.shop]
task = "ranking"
[models.shop.cycle]
probation_s = 0.0
[models.shop.policy]
kind = "label_count"
at_least = 1000000
"""


def _make(folder: Path, rows: int) -> Path:
    """Write the settings on free ports; make both versions, unless an earlier run left them. Returns the settings."""
    config = write_settings(folder, _TOML)
    workspace = Workspace(load_settings(config))
    with Ledger.open(workspace.settings.ledger_address) as ledger:
        register(ledger, workspace)
        maker = VersionMaker(ledger, workspace, MODEL)
        if ledger.route(MODEL) is None:
            manifest = _version(ledger, workspace, maker, 1, _likings(rows, seed=1))
            begin_route(ledger, workspace, MODEL, 1, manifest, (), {"reason": "first version", "rows": rows})
        if not workspace.bundle(MODEL, 2).is_dir():
            _version(ledger, workspace, maker, 2, _likings(2 * rows, seed=2))
            ledger.set_version_state(MODEL, 2, VersionState.PUBLISHED, card=version_card(labels=()))
    with UserEvents(workspace.user_events(MODEL)) as users:
        users.add(_likings(rows, seed=1))
    shutil.rmtree(workspace.traffic(MODEL), ignore_errors=True)
    return config


def _likings(users: int, *, seed: int) -> list[Event]:
    """Users with a taste each, who like items of it in an order of their own."""
    rng, found = np.random.default_rng(seed), []
    for user in range(users):
        own = np.arange(user % _TASTES, _ITEMS, _TASTES)
        for step, item in enumerate(rng.choice(own, _LIKED, replace=False)):
            found.append(Event(user=f"u{user}", item=f"item {item}", at=_BEGAN + timedelta(hours=step)))
    return found


def _version(ledger: Ledger, workspace: Workspace, maker: VersionMaker, version: int, events: list[Event]) -> Manifest:
    """A version by the loop's own export and proof."""
    if all(row.version != version for row in ledger.versions(MODEL)):
        ledger.add_version(VersionRow(model=MODEL, version=version, learner=_LEARNER, lineage={}))
    trained = maker.trained(version)
    if not is_finished(trained):
        items = tuple(Item(name=f"item {n}", text=f"taste{n % _TASTES} word{n % 97}") for n in range(_ITEMS))
        gram = ItemGram()
        gram.add(events)
        TrainedRanking(
            card=ModelCard(learner=_LEARNER, task="ranking"),
            items=items,
            structure=gram.solve(GramSettings(texts=ItemTexts.of(items))),
        ).write(trained, gram)
    asked_at = (_BEGAN + timedelta(days=1)).isoformat()
    proof = [{"user": user, "asked_at": asked_at} for user in sorted({event.user for event in events})[:200]]
    order = EngineOrder(
        trained=trained,
        engine="auto",
        precision="auto",
        lineage=Lineage(learner=_LEARNER),
        held_out=proof,
        calibration=proof,
    )
    log = maker.folder(version) / "export.log"
    errors = JobErrors(what=f"export of version {version}", failed=ExportFailed, refused=ParityFailed, log=log)
    maker.compile(version, order, errors, lambda _: None)
    return maker.publish(version)


def _table(workspace: Workspace, versions: Sequence[int], texts: int) -> Table:
    """Ask the bundles themselves, without any server; a user's whole list is an answer."""
    with UserEvents(workspace.user_events(MODEL)) as kept:
        users = list(kept.users())[:texts]
    task_inputs = SIDE.memory(workspace.user_events(MODEL)).recalled([Asked(user=user) for user in users])
    labels: dict[str, int] = {}
    labels_of_version: dict[int, list[int]] = {}
    for version in versions:
        answers = BundledVersion.load(workspace.bundle(MODEL, version), threads=1).answers(task_inputs)
        lists = [JOINT.join(json.loads(answer.kept)) for answer in answers]
        labels_of_version[version] = [labels.setdefault(one, len(labels)) for one in lists]
    return Table(texts=users, labels=list(labels), labels_of_version=labels_of_version)


RANKING_WORLD = World(model=MODEL, asks=USER, says=ITEMS, make=_make, table=_table)
