"""Which files of the work folders stay, on a real ledger and the real filesystem."""

import os
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from perennial.continual import cycle as cy
from perennial.continual.cycle import encode
from perennial.continual.cycle.events import CycleState
from perennial.ops.ledger import Phase, VersionRow, VersionState
from perennial.ops.making.retention import prune_runs
from perennial.ops.store.steady_clock import SteadyClock
from tests.component.town import Town
from tests.component.town_loop import town_loop

pytestmark = pytest.mark.component

NOW = datetime(2026, 5, 1, tzinfo=UTC)
KEEP = timedelta(days=30)
REPORTS = {"train.log", "export.log", "export.result.json", "decision.json", "shadow.report.json"}
ROWS = {"examples.jsonl", "replay.jsonl", "holdout.jsonl", "heldout.json", "calibration.json", "judge.json"}


def version(town: Town, number: int, state: VersionState, *, days: float, bundle: bool) -> Path:
    """A version with a work folder that was last written so long ago."""
    if number > 1:
        town.ledger.add_version(VersionRow(model="intent", version=number))
    for reached in (VersionState.PUBLISHED, state) if bundle or state is VersionState.RETIRED else (state,):
        town.ledger.set_version_state("intent", number, reached)
    if bundle:
        town.workspace.bundle("intent", number).mkdir(parents=True)
    folder = town.workspace.run("intent", number)
    (folder / "trained" / "encoder").mkdir(parents=True)
    names = [*REPORTS, *ROWS, "train.json", "shadow.json", "trained/model.json", "trained/encoder/weights"]
    written = (NOW - timedelta(days=days)).timestamp()
    for name in names:
        (folder / name).write_text("a text", encoding="utf-8")
        os.utime(folder / name, (written, written))
    return folder


def pruned(town: Town) -> tuple[int, ...]:
    return prune_runs(town.ledger, town.workspace, "intent", now=NOW, keep=KEEP)


def left(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_a_finished_version_keeps_its_logs_and_reports_until_they_are_old(town: Town) -> None:
    champion = version(town, 1, VersionState.CHAMPION, days=2, bundle=True)
    refused = version(town, 2, VersionState.REFUSED, days=2, bundle=False)
    old = version(town, 3, VersionState.RESIDENT, days=31, bundle=True)
    assert pruned(town) == (3,)
    assert left(champion) == left(refused) == REPORTS
    assert not (champion / "trained").exists()
    assert not old.exists()
    assert town.workspace.bundle("intent", 3).is_dir()
    assert pruned(town) == ()
    assert left(champion) == REPORTS


def test_a_work_folder_goes_with_its_bundle(town: Town) -> None:
    gone = version(town, 2, VersionState.RETIRED, days=2, bundle=False)
    kept = version(town, 3, VersionState.RETIRED, days=2, bundle=True)
    assert pruned(town) == (2,)
    assert (gone.exists(), kept.exists()) == (False, True)


def test_what_is_being_made_keeps_everything(town: Town) -> None:
    """A killed training goes on with its rows and checkpoints; an export reads the trained folder."""
    training = version(town, 2, VersionState.TRAINING, days=2, bundle=False)
    exported = version(town, 3, VersionState.EXPORTED, days=2, bundle=False)
    under_way = version(town, 4, VersionState.RESIDENT, days=40, bundle=True)
    fresh = version(town, 5, VersionState.RETIRED, days=0.5, bundle=True)
    whole = left(fresh)
    cycle = cy.Cycle(model="intent", champion=1, challenger=4, state=CycleState.CANARY, plan=cy.CyclePlan())
    number = town.ledger.open_cycle("intent", "a test", encode(cycle), state="canary")
    assert pruned(town) == ()
    assert left(training) == left(exported) == left(under_way) == left(fresh) == whole
    town.ledger.save_cycle(number, "probation", encode(replace(cycle, state=CycleState.PROBATION)))
    assert pruned(town) == (4,), "a probation of days keeps no rows"
    assert left(training) == left(exported) == left(fresh) == whole


def test_a_workspace_without_work_folders_is_left_alone(town: Town) -> None:
    assert pruned(town) == ()
    (town.workspace.run("intent", 1).parent / "notes").mkdir(parents=True)
    assert pruned(town) == ()
    assert (town.workspace.run("intent", 1).parent / "notes").is_dir()


def test_the_retention_job_prunes_work_folders_and_history(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("perennial.ops.app.housekeeping._HISTORY_KEPT", 1)
    folder = version(town, 2, VersionState.RETIRED, days=2, bundle=False)
    for path in folder.rglob("*"):
        os.utime(path, (0.0, 0.0))
    cycles = []
    with monkeypatch.context() as past:
        past.setattr(town.ledger, "_clock", lambda: NOW - timedelta(days=9_000))
        for _ in range(2):
            cycles.append(town.ledger.open_cycle("intent", "a test", {}))
            town.ledger.journal(cycles[-1], "intent", "Promote", Phase.OUTCOME, {})
            town.ledger.close_cycle(cycles[-1], "promoted")
    with town_loop(town) as loop:
        summary = loop.retain()
    assert summary == "0 traffic rows, 1 rows of history, work folders [2], 0 reports, bundles []"
    assert not folder.exists()
    assert [bool(town.ledger.journal_of(cycle)) for cycle in cycles] == [False, True]


def test_a_clock_that_jumps_ahead_makes_no_traffic_too_old(town: Town) -> None:
    town.ask(140)
    days = town.workspace.settings.traffic.retention_days
    wall_s, steady_s = [town.now.timestamp()], [1_000.0]
    clock = SteadyClock(
        town.folder / "clock.json",
        stands_s=days * 86_400,
        wall=lambda: wall_s[0],
        steady=lambda: steady_s[0],
    )
    with town_loop(town, deletes_by=clock.now) as loop:
        clock.now()
        wall_s[0] += 900 * 86_400
        assert loop.retain().startswith("0 traffic rows, ")
        assert town.traffic.count() == 140
        for clocks in (wall_s, steady_s):
            clocks[0] += (days + 1) * 86_400
        assert loop.retain().startswith("140 traffic rows, ")
