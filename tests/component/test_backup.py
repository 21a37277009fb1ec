"""A backup is one moment of a workspace that goes on meanwhile, and makes the same workspace again, elsewhere too."""

import itertools
import json
import os
import shutil
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import NullPool, create_engine, text
from typer.testing import CliRunner

from perennial.continual.errors import ConfigurationError, DataError, Refused
from perennial.continual.records import Example, Route, Split
from perennial.ops.app.wiring import open_parts
from perennial.ops.cli.main import app
from perennial.ops.commands import backup as backing_up
from perennial.ops.commands.backup import back_up, read_backup
from perennial.ops.commands.restore import restore
from perennial.ops.commands.upgrade import upgrade
from perennial.ops.ledger import DriftReportRow, Ledger, VersionRow, VersionState
from perennial.ops.ledger.dump import schema_of
from perennial.ops.ledger.schema import REVISION
from perennial.ops.settings import Settings, load_settings
from perennial.ops.store.reply_store import ReplyStore
from perennial.ops.store.workspace import Workspace
from perennial.ops.traffic import TrafficLog
from perennial.ops.traffic.writer import TrafficWriter
from tests.component.databases import BACKENDS, OldLedger, empty_url, fresh_url
from tests.component.traffic_rows import columns

pytestmark = pytest.mark.component
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


@dataclass(frozen=True, kw_only=True)
class House:
    """A workspace with rows, traffic, a library of replies and two versions that share a file."""

    config: Path
    settings: Settings
    workspace: Workspace

    def examples(self, first: int, count: int, ledger: Ledger) -> None:
        rows = [Example(text=f"text {n}", label="card", at=NOON) for n in range(first, first + count)]
        ledger.add_examples("intent", rows, lambda _: Split.TRAIN)


def settings_in(folder: Path, ledger_url: str = "") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "perennial.toml"
    config.write_text(f"ledger_url = '{ledger_url}'\n[models.intent]\n[models.desk]\ntask = 'replies'\n")
    return config


@pytest.fixture(params=BACKENDS)
def house(request: pytest.FixtureRequest, tmp_path: Path) -> House:
    url = "" if request.param == "sqlite" else fresh_url(request.param, tmp_path)
    config = settings_in(tmp_path / "house", url)
    settings = load_settings(config)
    made = House(config=config, settings=settings, workspace=Workspace(settings))
    _fill(made)
    return made


def _fill(house: House) -> None:
    workspace, report = house.workspace, house.workspace.reports("intent") / "evidently" / "1.html"
    with Ledger.open(house.settings.ledger_address) as ledger:
        for model, task in (("intent", "text_classification"), ("desk", "replies")):
            ledger.register_model(model, {"task": task})
        for version in (1, 2):
            ledger.next_version("intent")
            ledger.add_version(VersionRow(model="intent", version=version, state=VersionState.PUBLISHED))
            bundle = workspace.bundle("intent", version)
            bundle.mkdir(parents=True)
            (bundle / "model.json").write_text(str(version))
        (workspace.bundle("intent", 1) / "encoder.bin").write_bytes(bytes(100_000))
        os.link(workspace.bundle("intent", 1) / "encoder.bin", workspace.bundle("intent", 2) / "encoder.bin")
        route = Route(model="intent", epoch=1, champion=2, previous=1, resident=(1, 2))
        ledger.set_route(route, expected_epoch=0, actor="test", reason="first")
        workspace.write_route(route)
        house.examples(0, 50, ledger)
        number = ledger.add_drift_report(
            DriftReportRow(model="intent", version=2, at=NOON, rows=9, state="ok", payload={"doubt": 0.5})
        )
        ledger.place_report(number, str(report.resolve()))
        ledger.put_state("intent", "watch", {"since": None, "ü": [1, 2.5]})
    report.parent.mkdir(parents=True)
    report.write_text("<p>a report")
    workspace.cache.mkdir()
    (workspace.cache / "big.bin").write_bytes(bytes(10))
    (house.settings.state / "console.json").write_text('{"key": "00", "ended": {}}')
    writer = TrafficWriter(workspace.traffic("intent"), "test", dimension=3)
    writer.append(columns([1.0, 2.0]))
    writer.close()
    with ReplyStore(workspace.replies("desk")) as store:
        store.put([])


def everything(settings: Settings) -> dict[str, list[str]]:
    """Every row of every table, its times without their zones, which only one of the databases tells."""
    tables = OldLedger(settings.ledger_address).everything()
    return {
        name: sorted(json.dumps(row, default=_plain, sort_keys=True) for row in rows) for name, rows in tables.items()
    }


def _plain(value: object) -> str:
    assert isinstance(value, datetime)
    return (value if value.tzinfo is None else value.astimezone(UTC).replace(tzinfo=None)).isoformat()


@pytest.fixture(params=BACKENDS)
def elsewhere(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """Settings on another machine, whose database is an empty one of either kind."""
    with empty_url(request.param, tmp_path) as url:
        yield settings_in(tmp_path / "elsewhere", "" if request.param == "sqlite" else url)


def test_a_workspace_is_made_again_elsewhere_and_on_either_database(
    house: House, elsewhere: Path, tmp_path: Path
) -> None:
    before, target = everything(house.settings), tmp_path / "backups" / "one"
    with Ledger.open(house.settings.ledger_address) as ledger:
        last = ledger.last_example_id("intent")
    made = back_up(house.settings, target, config=house.config)
    assert not any("cache" in name or "route/" in name for name in made.files)
    assert "state/console.json" not in made.files, "with it a backup would let its reader in"
    shutil.rmtree(house.config.parent)  # the disaster
    restored = restore(target, elsewhere, actor="ann")
    assert restored.models == ("desk", "intent")
    settings = load_settings(elsewhere)
    workspace, after = Workspace(settings), everything(settings)
    audit, head = after.pop("audit_entry"), after.pop("audit_head")
    assert set(before.pop("audit_entry")) < set(audit)
    assert before.pop("audit_head") != head
    place = str(house.settings.state.resolve())
    moved = [row.replace(place, str(settings.state.resolve())) for row in before["drift_report"]]
    assert after == {**before, "drift_report": moved}
    with Ledger.open(settings.ledger_address) as ledger:
        assert ledger.verify_audit().intact
        (entry,) = ledger.audit_entries()[-1:]
        assert (entry.action, entry.actor) == ("backup.restored", "ann")
        (report,) = ledger.drift_reports("intent")
        assert report.path is not None
        assert Path(report.path).read_text() == "<p>a report"
        assert workspace.read_route("intent") == ledger.route("intent")
        assert ledger.next_version("intent") == 3
        house.examples(100, 1, ledger)
        assert ledger.last_example_id("intent") == last + 1, "numbers go on where they stood"
    assert TrafficLog(workspace.traffic("intent")).read().num_rows == 2
    shared = [workspace.bundle("intent", version) / "encoder.bin" for version in (1, 2)]
    assert shared[0].samefile(shared[1])


def test_a_backup_is_of_one_moment_while_others_write(house: House, tmp_path: Path) -> None:
    """Rows that come together are all in it, or none: of the ledger, and of the databases beside it."""
    done, wrote = threading.Event(), threading.Event()
    library = house.workspace.replies("desk")
    with closing(sqlite3.connect(library)) as connection, connection:
        connection.execute("CREATE TABLE pair (name TEXT)")

    def write() -> None:
        with Ledger.open(house.settings.ledger_address) as ledger, closing(sqlite3.connect(library)) as connection:
            count = 100
            while not done.is_set():
                with ledger.transaction():
                    house.examples(count, 1, ledger)
                    ledger.audit("writer", "wrote", "intent", {"example": count})
                with connection:
                    connection.executemany("INSERT INTO pair VALUES (?)", [("left",), ("right",)])
                (house.workspace.traffic("intent") / "live").mkdir(exist_ok=True)
                (house.workspace.traffic("intent") / "live" / f"{count}.arrows").write_bytes(b"x")
                count += 1
                wrote.set()

    thread = threading.Thread(target=write)
    thread.start()
    try:
        assert wrote.wait(20)
        made = [back_up(house.settings, tmp_path / f"backup-{number}", config=house.config) for number in range(2)]
    finally:
        done.set()
        thread.join()
    for number, backup in enumerate(made):
        lines = (tmp_path / f"backup-{number}/ledger/audit_entry.jsonl").read_text(encoding="utf-8").splitlines()
        rows = [json.loads(line) for line in lines]
        assert sum(row["action"] == "wrote" for row in rows) == backup.ledger.rows["example"] - 50
        with closing(sqlite3.connect(tmp_path / f"backup-{number}/state/replies/desk.db")) as kept:
            counts = dict(kept.execute("SELECT name, count(*) FROM pair GROUP BY name"))
        assert counts["left"] == counts["right"] > 0
        assert read_backup(tmp_path / f"backup-{number}") == backup
    assert made[1].ledger.rows["example"] > made[0].ledger.rows["example"] > 50


def filled(folder: Path, ledger_url: str = "") -> House:
    config = settings_in(folder, ledger_url)
    settings = load_settings(config)
    made = House(config=config, settings=settings, workspace=Workspace(settings))
    _fill(made)
    return made


@pytest.fixture
def small(tmp_path: Path) -> House:
    return filled(tmp_path / "house")


def test_a_backup_ends_although_files_come_and_has_what_took_the_place_of_others(
    small: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state, look, numbers = small.settings.state, backing_up._state_files, itertools.count()
    (state / "segment").write_text("rows")

    def looked(settings: Settings) -> Iterator[str]:
        found, number = list(look(settings)), next(numbers)
        (state / f"later-{number}").write_text("x")
        if number == 0:
            (state / "segment").rename(state / "compacted")
        yield from found

    monkeypatch.setattr(backing_up, "_state_files", looked)
    made = back_up(small.settings, tmp_path / "backup", config=small.config)
    assert {name for name in made.files if name in {"state/segment", "state/compacted"}} == {"state/compacted"}


def test_what_a_link_in_the_state_leads_to_is_copied(small: House, tmp_path: Path) -> None:
    """Somebody keeps the traffic on another disk."""
    traffic, disk, fresh = small.workspace.traffic("intent"), tmp_path / "disk", settings_in(tmp_path / "fresh")
    traffic.rename(disk)
    traffic.symlink_to(disk)
    (disk / "round").symlink_to(disk)
    made = back_up(small.settings, tmp_path / "backup", config=small.config)
    assert not any("round" in name for name in made.files)
    restore(tmp_path / "backup", fresh, actor="ann")
    assert TrafficLog(Workspace(load_settings(fresh)).traffic("intent")).read().num_rows == 2


def test_keys_of_exchanges_are_in_no_backup_and_their_budget_is(small: House, tmp_path: Path) -> None:
    held = small.settings.state / "federation" / "intent"
    (held / "rounds").mkdir(parents=True)
    (held / "rounds" / "ab.json").write_text("{}")
    (held / "budget.json").write_text("[]")
    told = small.settings.state / "privacy" / "intent.json"
    told.parent.mkdir()
    told.write_text("[]")
    made = back_up(small.settings, tmp_path / "backup", config=small.config)
    found = {name for name in made.files if name.startswith("state/federation")}
    assert found == {"state/federation/intent/budget.json"}
    assert "state/privacy/intent.json" in made.files


def test_a_ledger_of_another_name_within_the_state_is_restored_too(tmp_path: Path) -> None:
    url, target = f"sqlite:///{tmp_path}/house/var/books.db", tmp_path / "backup"
    house = filled(tmp_path / "house", url)
    before = everything(house.settings)["example"]
    made = back_up(house.settings, target, config=house.config)
    assert not any("books.db" in name for name in made.files)
    shutil.rmtree(house.config.parent)
    restore(target, house.config, actor="ann")
    assert everything(house.settings)["example"] == before


def test_nothing_that_is_there_is_overwritten(small: House, tmp_path: Path) -> None:
    target = tmp_path / "backup"
    back_up(small.settings, target, config=small.config)
    with pytest.raises(Refused, match="name a folder that does not"):
        back_up(small.settings, target, config=small.config)
    with pytest.raises(Refused, match="name a folder outside of it"):
        back_up(small.settings, small.settings.state / "backup", config=small.config)
    with pytest.raises(Refused, match="is not empty"):
        restore(target, small.config, actor="ann")
    other = settings_in(tmp_path / "other")
    with Ledger.open(load_settings(other).ledger_address) as ledger:
        ledger.register_model("mail", {})
    with pytest.raises(Refused, match="holds models already"):
        restore(target, other, actor="ann")


def test_tables_of_others_in_the_database_stay(small: House, elsewhere: Path, tmp_path: Path) -> None:
    target, settings = tmp_path / "backup", load_settings(elsewhere)
    back_up(small.settings, target, config=small.config)
    settings.state.mkdir()
    url = settings.ledger_address.replace("postgresql:", "postgresql+psycopg:")
    engine = create_engine(url, poolclass=NullPool)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE job (name TEXT)"))
    with pytest.raises(Refused, match=r"no ledger's of this release \(job\)"):
        restore(target, elsewhere, actor="ann")
    with engine.begin() as connection:
        connection.execute(text("ALTER TABLE job RENAME TO invoice"))
        connection.execute(text("INSERT INTO invoice VALUES ('paid')"))
    restore(target, elsewhere, actor="ann")
    with engine.connect() as connection:
        assert connection.execute(text("SELECT name FROM invoice")).all() == [("paid",)]
    later = tmp_path / "later"
    assert "invoice" not in back_up(settings, later, config=elsewhere).ledger.rows


def test_a_damaged_backup_is_refused_before_anything_is_written(small: House, tmp_path: Path) -> None:
    target, fresh = tmp_path / "backup", tmp_path / "fresh" / "perennial.toml"
    back_up(small.settings, target, config=small.config)
    (target / "bundles" / "intent_engine" / "2" / "model.json").write_text("3")
    with pytest.raises(DataError, match="is damaged: 1 files"):
        restore(target, fresh, actor="ann")
    assert not fresh.parent.exists()
    with pytest.raises(DataError, match="is no backup"):
        restore(tmp_path, fresh, actor="ann")


def test_no_name_in_a_backup_leads_out_of_the_workspace(small: House, tmp_path: Path) -> None:
    target, fresh = tmp_path / "backup", settings_in(tmp_path / "fresh")
    back_up(small.settings, target, config=small.config)
    manifest = target / "backup.json"
    document = json.loads(manifest.read_text())
    document["files"]["state/../perennial.toml"] = document["files"]["perennial.toml"]
    manifest.write_text(json.dumps(document))
    with pytest.raises(DataError, match=r"1 files, e\.g\. state/\.\./perennial\.toml"):
        restore(target, fresh, actor="ann")


@pytest.mark.parametrize("step", ["load_ledger", "restore_route_file"])
def test_a_restore_that_was_cut_off_is_finished_by_another_one(
    small: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    target, fresh = tmp_path / "backup", settings_in(tmp_path / "fresh")
    back_up(small.settings, target, config=small.config)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(f"perennial.ops.commands.restore.{step}", killed)
        with pytest.raises(KeyboardInterrupt):
            restore(target, fresh, actor="ann")
    with pytest.raises(Refused, match="restore that again first"):
        open_parts(fresh)
    shutil.copytree(target, tmp_path / "another")
    with pytest.raises(Refused, match="half restored from"):
        restore(tmp_path / "another", fresh, actor="ann")
    restore(target, fresh, actor="ann")
    settings = load_settings(fresh)
    assert everything(settings)["example"] == everything(small.settings)["example"]
    assert not (settings.state / "restoring.json").exists()


def test_a_restored_workspace_is_as_closed_as_its_settings_say(small: House, tmp_path: Path) -> None:
    """An external Triton runs as another user of the group."""
    target, fresh = tmp_path / "backup", settings_in(tmp_path / "fresh")
    fresh.write_text(f"umask = '007'\n{fresh.read_text()}")
    back_up(small.settings, target, config=small.config)
    before = os.umask(0o077)
    try:
        restore(target, fresh, actor="ann")
    finally:
        os.umask(before)
    assert Workspace(load_settings(fresh)).bundle("intent", 2).stat().st_mode & 0o777 == 0o770


def test_the_commands_say_what_they_would_do_and_do_it(small: House, tmp_path: Path) -> None:
    target, fresh = str(tmp_path / "kept"), tmp_path / "new" / "perennial.toml"

    def run(*arguments: str) -> str:
        done = CliRunner().invoke(app, list(arguments))
        assert done.exception is None, done.exception
        return done.stdout

    config = ["--config", str(small.config)]
    assert json.loads(run("backup", target, "--dry-run", *config))["schema"] == REVISION
    assert not Path(target).exists()
    assert json.loads(run("backup", target, *config))["ledger_rows"] > 50
    would = json.loads(run("restore", target, "--dry-run", "--config", str(fresh)))["would_restore"]
    assert would["state"] == str(tmp_path / "new" / "var")
    assert not fresh.parent.exists()
    assert json.loads(run("restore", target, "--config", str(fresh)))["restored"]["models"] == ["desk", "intent"]
    assert fresh.read_text() == small.config.read_text()
    assert json.loads(run("upgrade", *config))["done"] is False


def test_an_upgrade_says_what_changes_and_keeps_the_workspace_from_before(tmp_path: Path) -> None:
    config, backup = settings_in(tmp_path / "old"), tmp_path / "backup"
    settings = load_settings(config)
    settings.state.mkdir()
    old = OldLedger(settings.ledger_address)
    old.move("0002")
    old.put({"model": [{"name": "intent", "settings": {}, "last_version": 0, "created_at": NOON}]})
    planned = upgrade(settings, config=config, backup=backup, running=7, dry_run=True)
    assert (planned.schema, planned.then, planned.done) == ("0002", REVISION, False)
    assert planned.steps[0].startswith("0003: ")
    assert schema_of(settings.ledger_address) == "0002"
    with pytest.raises(Refused, match="process 7"):
        upgrade(settings, config=config, backup=backup, running=7, dry_run=False)
    assert upgrade(settings, config=config, backup=backup, running=None, dry_run=False).backup == str(backup)
    assert schema_of(settings.ledger_address) == REVISION
    back = settings_in(tmp_path / "back")
    assert restore(backup, back, actor="ann").schema == "0002"
    assert schema_of(load_settings(back).ledger_address) == REVISION, "it is brought up when it is opened"
    nowhere = settings.model_copy(update={"ledger_url": f"sqlite:///{tmp_path}/nowhere.db"})
    with pytest.raises(ConfigurationError, match="there is no ledger"):
        upgrade(nowhere, config=config, backup=backup, running=None, dry_run=True)
    assert not (tmp_path / "nowhere.db").exists()
