"""A ledger that is lost or older than the world: nothing is acknowledged into it or undone by it."""

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from perennial.continual.errors import DependencyUnreachable, PerennialError
from perennial.continual.records import Route
from perennial.continual.route import promoted
from perennial.ops.app.service import Service
from perennial.ops.commands.ledger_rebuild import rebuild_ledger
from perennial.ops.ledger import FeedbackRow, Ledger
from perennial.ops.serving.client import PerennialClient
from perennial.ops.settings import Settings
from perennial.ops.store.ledger_guard import LedgerBehind, check_not_behind
from perennial.ops.store.route_changes import change_route, restore_route_file
from perennial.ops.store.workspace import Workspace
from tests.component.databases import BACKENDS, fresh_url
from tests.component.test_service_starts import Town
from tests.component.triton_fixtures import ENGINE, MODEL

pytestmark = [pytest.mark.component, pytest.mark.paired]


@pytest.fixture(name="town")
def _town(tmp_path: Path) -> Iterator[Town]:
    town = Town(tmp_path)
    try:
        yield town
    finally:
        town.server.stop()


def _delete(path: Path) -> None:
    for found in path.parent.glob(f"{path.name}*"):
        if not found.name.endswith(".lock"):
            found.unlink()


def _replace(path: Path) -> None:
    copy = path.with_suffix(".copy")
    shutil.copyfile(path, copy)
    copy.replace(path)


def _lose_log(path: Path) -> None:
    path.with_name(f"{path.name}-wal").unlink()


def _make_anew(path: Path) -> None:
    _delete(path)
    Ledger.open(f"sqlite:///{path}").close()


def _move_folder(path: Path) -> None:
    path.parent.rename(path.parent.with_name("moved"))


DAMAGES: dict[str, Callable[[Path], None]] = {
    "deleted": _delete,
    "only the file deleted": Path.unlink,
    "replaced": _replace,
    "emptied": lambda path: os.truncate(path, 0),
    "lost its log": _lose_log,
    "made anew": _make_anew,
    "folder moved": _move_folder,
}


def _label(number: int) -> FeedbackRow:
    return FeedbackRow(prediction_id=f"p{number}", label="a", at=datetime(2026, 1, 1, tzinfo=UTC))


@pytest.mark.parametrize("damage", DAMAGES)
def test_nothing_is_acknowledged_into_a_file_that_is_gone(tmp_path: Path, damage: str) -> None:
    folder = tmp_path / "state"
    folder.mkdir()
    with Ledger.open(f"sqlite:///{folder / 'ledger.db'}") as ledger:
        ledger.register_model(MODEL, {})
        ledger.add_feedback(MODEL, [_label(0)])
        DAMAGES[damage](folder / "ledger.db")
        for number in (1, 2):
            with pytest.raises(DependencyUnreachable, match="ledger"):
                ledger.add_feedback(MODEL, [_label(number)])
        if damage != "lost its log":
            with pytest.raises(DependencyUnreachable, match="stop `perennial serve`"):
                ledger.ping()


@pytest.fixture(params=BACKENDS)
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ledger]:
    with Ledger.open(fresh_url(request.param, tmp_path)) as opened:
        opened.register_model(MODEL, {})
        yield opened


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(Settings(state=tmp_path / "var", repository=tmp_path / "repository", models={MODEL: {}}))


@pytest.mark.parametrize("known", [None, 1, 5])
def test_a_ledger_behind_the_routers_commands_nobody(ledger: Ledger, workspace: Workspace, known: int | None) -> None:
    followed = Route(model=MODEL, epoch=7, champion=3, previous=2, resident=(2, 3))
    workspace.write_route(followed)
    if known is not None:
        ledger.restore_route(replace(followed, epoch=known, champion=2), actor="test", reason="an old copy")
    with pytest.raises(LedgerBehind, match="ledger rebuild"):
        check_not_behind(ledger.route(MODEL), workspace, MODEL)
    with pytest.raises(LedgerBehind):
        restore_route_file(ledger, workspace, MODEL)
    with pytest.raises(LedgerBehind):
        change_route(ledger, workspace, MODEL, promoted(2, resident=2), actor="test", reason="")
    assert workspace.read_route(MODEL) == followed


@pytest.mark.parametrize("known", [6, 7, 9])
def test_a_file_one_change_ahead_is_a_change_that_was_never_committed(
    ledger: Ledger, workspace: Workspace, known: int
) -> None:
    followed = Route(model=MODEL, epoch=7, champion=3, previous=2, resident=(2, 3))
    workspace.write_route(followed)
    held = replace(followed, epoch=known, champion=2, previous=3)
    ledger.restore_route(held, actor="test", reason="first")
    restore_route_file(ledger, workspace, MODEL)
    assert workspace.read_route(MODEL) == held


@pytest.mark.parametrize("known", [None, 1])
def test_a_ledger_is_rebuilt_from_bundles_and_routes(ledger: Ledger, town: Town, known: int | None) -> None:
    parts = town.opened()
    followed = Route(model=MODEL, epoch=7, champion=2, previous=1, challenger=3, share=0.1, resident=(1, 2, 3))
    parts.workspace.write_route(followed)
    (parts.workspace.bundle(MODEL, 1) / "labels.json").write_text("[]")
    if known is not None:
        ledger.restore_route(Route(model=MODEL, epoch=known, champion=1, resident=(1,)), actor="test", reason="old")
    before = ledger.audit_head()
    planned = rebuild_ledger(ledger, parts.workspace, parts.repository, actor="ada", dry_run=True)
    assert (ledger.audit_head(), ledger.versions(MODEL)) == (before, ())
    made = rebuild_ledger(ledger, parts.workspace, parts.repository, actor="ada", dry_run=False)
    assert made == planned
    assert (made[0].versions, list(made[0].damaged)) == ((2,), [1])
    route = Route(model=MODEL, epoch=8, champion=2, resident=(2,))
    assert ledger.route(MODEL) == parts.workspace.read_route(MODEL) == route
    assert [(row.version, row.state, len(row.labels)) for row in ledger.versions(MODEL)] == [(2, "champion", 3)]
    assert ledger.next_version(MODEL) == 3
    assert ledger.verify_audit().intact
    again = rebuild_ledger(ledger, parts.workspace, parts.repository, actor="ada", dry_run=False)
    assert (again[0].versions, again[0].route) == ((), None)


class _Asking(threading.Thread):
    """Asks all the time, and keeps what was not answered by version 2."""

    def __init__(self, town: Town) -> None:
        super().__init__(daemon=True)
        self._url, self.over = town.server.spec.url, threading.Event()
        self.answered, self.wrong = 0, list[str]()

    def run(self) -> None:
        with PerennialClient(self._url, MODEL, timeout_s=15.0) as client:
            while not self.over.wait(0.05):
                try:
                    version = client.predict(["card lost"])[0].version
                except PerennialError as exc:
                    self.wrong.append(str(exc))
                    continue
                self.answered += 1
                if version != 2:
                    self.wrong.append(f"version {version}")


def _cli(town: Town, *words: str) -> dict[str, object]:
    command = [sys.executable, "-m", "perennial.ops.cli", *words, "--config", str(town.config)]
    root = Path(__file__).parents[2]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True, cwd=root)
    document: dict[str, object] = json.loads(done.stdout)
    return document


def test_a_deleted_ledger_takes_no_answer_away_and_is_rebuilt(town: Town) -> None:
    parts = town.opened()
    rebuild_ledger(parts.ledger, parts.workspace, parts.repository, actor="test", dry_run=False)  # versions have rows
    parts.close()
    pid, _ = town.left_behind()  # a control process that was killed left its server running
    asking = _Asking(town)
    asking.start()
    service = Service(town.opened())
    url = f"http://127.0.0.1:{town.api}"
    label = {"model": MODEL, "labels": [{"prediction_id": "0" * 32, "label": "greeting"}]}
    try:
        service.start()
        assert httpx.post(f"{url}/v1/feedback", json=label, timeout=20).status_code < 300
        _delete(town.place.root / "var" / "ledger.db")
        refused = httpx.post(f"{url}/v1/feedback", json=label, timeout=20)
        assert (refused.status_code, "stop `perennial serve`" in refused.text) == (503, True)
        # as after a kill: the server goes on, and the next control process finds an empty ledger
        for loop in service.roster.loops.values():
            loop.leave()
        service.servers.supervisor.stop(keep_server=True)  # type: ignore[union-attr]
        service.servers.supervisor = None
    finally:
        service.stop()
    service = Service(town.opened())
    try:
        service.start()
        assert town.triton()[0] == pid
        assert "ledger rebuild" in service._parts.reconciler.wrong[MODEL, ""]
        assert not service.control.health().healthy
        promotion = httpx.post(f"{url}/v1/models/{MODEL}/promote", json={"version": 1}, timeout=20)
        assert (promotion.status_code, "ledger rebuild" in promotion.text) == (409, True)
        planned = _cli(town, "ledger", "rebuild", "--dry-run")
        made = _cli(town, "ledger", "rebuild")
        assert planned["models"] == made["models"]
        service.servers.reconcile_all()
        route = service._parts.ledger.route(MODEL)
        assert route is not None
        assert (route.epoch, route.champion, route.resident) == (2, 2, (1, 2))
        assert service._parts.reconciler.wrong == {}
        assert sorted(service._parts.controls[0].versions(ENGINE)) == [1, 2]
        asking.over.set()
        asking.join()
        assert asking.wrong == []
        assert asking.answered > 20
    finally:
        asking.over.set()
        service.stop()
