"""The router's file follows the ledger, whoever is killed when, and whatever the disk does."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import pytest
from sqlalchemy import event
from sqlalchemy.exc import OperationalError

from perennial.continual.errors import DependencyUnreachable, Overtaken
from perennial.continual.records import Route
from perennial.continual.route import ExpectedRoute, promoted, rolled_back
from perennial.ops.ledger import Ledger
from perennial.ops.settings import Settings
from perennial.ops.store.route_changes import change_route, restore_route_file
from perennial.ops.store.workspace import Workspace
from tests.component.databases import BACKENDS, fresh_url

pytestmark = pytest.mark.component
MODEL = "intent"
FIRST = Route(model=MODEL, epoch=1, champion=2, previous=1, resident=(1, 2))
BACK = replace(FIRST, epoch=2, champion=1, previous=2)
_KILLED = """
import os, signal, sys
from pathlib import Path
from perennial.ops.ledger import Ledger
from perennial.ops.store.route_changes import change_route
from perennial.continual.route import rolled_back
from perennial.ops.settings import Settings
from perennial.ops.store.workspace import Workspace

class Killed(Workspace):
    def write_route(self, route):
        super().write_route(route)
        os.kill(os.getpid(), signal.SIGKILL)

ledger = Ledger.open(sys.argv[1])
change_route(ledger, Killed(Settings(state=Path(sys.argv[2]))), "intent", rolled_back(), actor="x", reason="killed")
"""


@dataclass
class Town:
    url: str
    ledger: Ledger
    workspace: Workspace

    def roll_back(self) -> Route:
        return change_route(self.ledger, self.workspace, MODEL, rolled_back(), actor="test", reason="back").after

    @property
    def file(self) -> Route | None:
        return self.workspace.read_route(MODEL)


@pytest.fixture(params=BACKENDS)
def town(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Town]:
    url = fresh_url(request.param, tmp_path)
    with Ledger.open(url) as ledger:
        ledger.register_model(MODEL, {})
        ledger.set_route(FIRST, expected_epoch=0, actor="test", reason="first")
        opened = Town(url, ledger, Workspace(Settings(state=tmp_path / "var")))
        assert restore_route_file(ledger, opened.workspace, MODEL) == FIRST
        yield opened


def test_a_change_moves_ledger_and_file_together(town):
    assert town.roll_back() == town.file == town.ledger.route(MODEL) == BACK
    assert restore_route_file(town.ledger, town.workspace, MODEL) is None


def test_a_commit_that_fails_leaves_the_route_as_it_was(town):
    routes = []

    def fail(_: object) -> None:
        routes.append(town.file)
        raise OperationalError("COMMIT", {}, OSError("no space left"))

    event.listen(town.ledger.engine, "commit", fail)
    try:
        with pytest.raises(DependencyUnreachable, match="no space left"):
            town.roll_back()
    finally:
        event.remove(town.ledger.engine, "commit", fail)
    assert routes[0] == BACK  # the routers had been told
    assert town.file == town.ledger.route(MODEL) == FIRST
    assert town.roll_back() == town.file == BACK


def test_a_ledger_that_is_gone_after_the_routers_were_told_leaves_the_route_as_it_was(town, monkeypatch):
    def fail(*_: object) -> None:
        raise OperationalError("x", {}, OSError("gone"))

    write = Workspace.write_route

    def last(workspace: Workspace, route: Route) -> bool:
        written = write(workspace, route)
        monkeypatch.setattr(Workspace, "write_route", write)
        for moment in ("commit", "begin"):
            event.listen(town.ledger.engine, moment, fail)
        return written

    monkeypatch.setattr(Workspace, "write_route", last)
    try:
        with pytest.raises(DependencyUnreachable, match="gone"):
            town.roll_back()
        assert town.file == FIRST
    finally:
        for moment in ("commit", "begin"):
            event.remove(town.ledger.engine, moment, fail)
    assert town.ledger.route(MODEL) == FIRST


def test_a_process_killed_between_telling_and_commit_has_changed_nothing_in_the_end(town, tmp_path):
    command = [sys.executable, "-c", _KILLED, town.url, str(tmp_path / "var")]
    ended = subprocess.run(command, timeout=60, check=False, cwd=Path(__file__).parents[2], env={**os.environ})
    assert ended.returncode == -signal.SIGKILL
    assert (town.file, town.ledger.route(MODEL)) == (BACK, FIRST)
    assert restore_route_file(town.ledger, town.workspace, MODEL) == FIRST
    assert town.file == FIRST
    assert [entry.action for entry in town.ledger.audit_entries()] == ["route.set"]
    assert town.roll_back() == town.file == BACK


def test_a_change_after_a_killed_one_needs_nobody_to_settle_first(town, tmp_path):
    command = [sys.executable, "-c", _KILLED, town.url, str(tmp_path / "var")]
    subprocess.run(command, timeout=60, check=False, cwd=Path(__file__).parents[2])
    assert town.file == BACK
    after = change_route(town.ledger, town.workspace, MODEL, promoted(2, resident=2), actor="test", reason="stay").after
    assert after == town.file == FIRST


def test_who_settles_waits_for_a_change_that_is_about_to_be_committed(town):
    followed, go, settled = threading.Event(), threading.Event(), []

    def follow(route: Route) -> None:
        town.workspace.write_route(route)
        followed.set()
        assert go.wait(30)

    def move() -> None:
        town.ledger.move_route(MODEL, rolled_back(), actor="test", reason="back", follow=follow)

    with Ledger.open(town.url) as other:  # as another process has one
        mover = threading.Thread(target=move)
        settler = threading.Thread(target=lambda: settled.append(restore_route_file(other, town.workspace, MODEL)))
        mover.start()
        assert followed.wait(30)
        settler.start()
        settler.join(0.3)
        assert settled == []
        assert town.file == BACK
        go.set()
        mover.join(30)
        settler.join(30)
    assert settled == [None]
    assert town.file == town.ledger.route(MODEL) == BACK


@pytest.mark.parametrize(
    "content", [b"", b"\0" * 90, b'{"model": "intent", "epo', b"\xff\xfe", b"[]", b'{"resident": 3}']
)
def test_what_a_power_cut_left_of_the_file_is_healed(town, content):
    path = town.workspace.route_file(MODEL)
    path.write_bytes(content)
    assert town.file is None
    assert restore_route_file(town.ledger, town.workspace, MODEL) == FIRST
    assert json.loads(path.read_bytes())["champion"] == 2


def test_a_file_that_breaks_a_routes_rules_is_healed(town):
    path = town.workspace.route_file(MODEL)
    path.write_text(path.read_text().replace("[1, 2]", "[1]"))
    assert town.file is None
    assert restore_route_file(town.ledger, town.workspace, MODEL) == FIRST


def test_changes_and_settlings_by_many_end_in_one_route(town):
    def work(number: int) -> None:
        with Ledger.open(town.url) as ledger:
            for _ in range(5):
                if number % 2:
                    restore_route_file(ledger, town.workspace, MODEL)
                else:
                    change_route(ledger, town.workspace, MODEL, rolled_back(), actor=str(number), reason="race")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert town.file == town.ledger.route(MODEL)
    assert town.file is not None
    assert town.file.epoch == 1 + 3 * 5
    assert town.ledger.verify_audit().intact


def test_of_twenty_promotions_at_once_each_follows_another_and_one_version_is_champion(town: Town) -> None:
    together, told = threading.Barrier(20), list[Route]()

    def promote(number: int) -> None:
        change = promoted(1 + number % 2, resident=2)
        with Ledger.open(town.url) as ledger:
            together.wait(60)
            told.append(change_route(ledger, town.workspace, MODEL, change, actor=f"p{number}", reason="race").after)

    with ThreadPoolExecutor(20) as pool:
        list(pool.map(promote, range(20)))
    entries = [entry for entry in town.ledger.audit_entries(MODEL) if entry.actor.startswith("p")]
    after = [entry.detail["to"] for entry in entries]
    assert [entry.detail["from"] for entry in entries[1:]] == after[:-1]
    assert [each["epoch"] for each in after] == list(range(2, 2 + len(after))), "one order, and nobody is passed over"
    champions = [FIRST.champion, *(each["champion"] for each in after)]
    assert all(one != other for one, other in pairwise(champions)), "what changes nothing is no change"
    assert town.file == town.ledger.route(MODEL) == max(told, key=lambda route: route.epoch)
    assert len(told) == 20
    assert town.ledger.verify_audit().intact


def test_of_twenty_that_have_seen_the_same_champion_one_promotes(town: Town) -> None:
    together, won = threading.Barrier(20), list[int]()
    seen = ExpectedRoute(champion=FIRST.champion)

    def promote(number: int) -> None:
        with Ledger.open(town.url) as ledger:
            together.wait(60)
            with suppress(Overtaken):
                change = seen.only(promoted(1, resident=2))
                change_route(ledger, town.workspace, MODEL, change, actor=f"p{number}", reason="race")
                won.append(number)

    with ThreadPoolExecutor(20) as pool:
        list(pool.map(promote, range(20)))
    assert len(won) == 1
    assert town.file == town.ledger.route(MODEL)
    assert town.file is not None
    assert (town.file.champion, town.file.epoch) == (1, 2)
