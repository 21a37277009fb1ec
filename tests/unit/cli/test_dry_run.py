"""`--dry-run` is there wherever something changes, says what would happen, and leaves every byte as it was."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from sqlalchemy import MetaData, select
from typer.testing import CliRunner

from perennial.continual import cycle as cy
from perennial.continual.cycle import encode
from perennial.continual.errors import InputError, NotFound, PerennialError, Refused
from perennial.continual.records import Route
from perennial.ops.cli.main import app
from perennial.ops.ledger import Ledger, VersionRow, VersionState, version_card
from perennial.ops.settings import load_settings
from perennial.ops.store.workspace import Workspace
from perennial.ops.traffic.writer import TrafficWriter
from tests.component.traffic_rows import columns, row_id

_WITHOUT = {
    "only reads": {
        *("audit show", "audit verify", "drift explain", "drift watch", "engine compare", "engine list"),
        *(
            "engine verify",
            "label doubts",
            "federate show",
            "learn described",
            "model list",
            "model show",
            "policy replay",
            "policy show",
            "replay show",
        ),
        *("account list", "config check", "config show", "open"),
        *("doctor", "rollout show", "schedule list", "status"),
        *("alerts events", "alerts list", "alerts show", "items list", "items rules", "reply list"),
        *("users export", "users show"),
    },
    "writes only what the caller names, or a report": {
        *("demo", "drift report", "learn run", "model report", "learn sweep", "replay export"),
        *("shadow report", "config docs"),
    },
    "is the service itself, or a request to it": {"hear", "predict", "serve"},
    "prints and changes nothing": {"token hash", "token new"},
}


def _commands(command: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    if not hasattr(command, "commands"):
        yield name, command
        return
    for key, below in command.commands.items():
        yield from _commands(below, f"{name} {key}".strip())


def test_every_command_that_changes_something_has_a_dry_run() -> None:
    found = dict(_commands(typer.main.get_command(app)))
    without = set().union(*_WITHOUT.values())
    assert without <= set(found), "a command of this list is gone"
    has = {name for name, command in found.items() if any("--dry-run" in p.opts for p in command.params)}
    assert has.isdisjoint(without)
    assert set(found) - without == has


@pytest.fixture(scope="module")
def untouched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace for all that changes nothing."""
    return workspace_in(tmp_path_factory.mktemp("untouched"))


@pytest.fixture(scope="module")
def waiting(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another one, with a cycle that waits for its approval."""
    config = workspace_in(tmp_path_factory.mktemp("waiting"))
    waiting_cycle(config)
    return config


def workspace_in(tmp_path: Path) -> Path:
    """Champion 2, before it 1, on disk 3 too; one request in the traffic."""
    path = tmp_path / "perennial.toml"
    path.write_text('state = "state"\nrepository = "repository"\n')
    workspace = Workspace(load_settings(path))
    for version in (1, 2, 3):
        workspace.bundle("intent", version).mkdir(parents=True)
    with Ledger.open(workspace.settings.ledger_address) as ledger:
        ledger.register_model("intent", {})
        for version in (1, 2, 3):
            ledger.add_version(
                VersionRow(
                    model="intent", version=version, state=VersionState.PUBLISHED, card=version_card(labels=("a",))
                )
            )
        route = Route(model="intent", epoch=1, champion=2, previous=1, resident=(1, 2))
        ledger.set_route(route, expected_epoch=0, actor="test", reason="first")
        workspace.write_route(route)
    writer = TrafficWriter(workspace.traffic("intent"), "test", dimension=3)
    writer.append(columns([1.0]))
    writer.close()
    (tmp_path / "labels.csv").write_text("text,label\nmy card,card\nmy loan,loan\n")
    (tmp_path / "feedback.csv").write_text(f"prediction_id,label\n{row_id(1.0, 0)},card\n")
    return path


def waiting_cycle(config: Path) -> None:
    cycle = cy.new_cycle(model="intent", champion=2, plan=cy.CyclePlan(approval=True))
    for event in (
        cy.TriggerFired(reason="test", challenger=3),
        cy.ChallengerTrained(),
        cy.ChallengerExported(),
        cy.GateAccepted(),
        cy.ChallengerLoaded(),
    ):
        cycle, _ = cy.handle(cycle, event)
    with Ledger.open(load_settings(config).ledger_address) as ledger:
        ledger.open_cycle("intent", "test", encode(cycle), state=cycle.state.value)


def everything(config: Path) -> dict[str, Any]:
    """Every file's bytes, and the ledger by its rows: its own files change when it is opened."""
    files = {
        str(path.relative_to(config.parent)): path.read_bytes()
        for path in config.parent.rglob("*")
        if path.is_file() and "ledger.db" not in path.name
    }
    with Ledger.open(load_settings(config).ledger_address) as ledger, ledger.engine.connect() as connection:
        tables = MetaData()
        tables.reflect(connection)
        rows = {name: connection.execute(select(table)).all() for name, table in tables.tables.items()}
    return {"files": files, "rows": rows}


def cli(config: Path, *arguments: str) -> Any:
    done = CliRunner().invoke(app, [*arguments, "--config", str(config)])
    if done.exception is not None:
        raise done.exception
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("model promote 3", {"loads": [3]}),
        ("model rollback", {"loads": []}),
        ("model rollback --to 3", {"loads": [3]}),
        ("rollout pause", {"now": "running", "then": "paused"}),
        ("retrain", {"champion": 2, "then": "training"}),
        ("feedback import {folder}/labels.csv", {"would_store": 2, "kind": "texts with labels"}),
        ("feedback import {folder}/feedback.csv", {"would_store": 1, "kind": "labels of requests"}),
        ("label submit {request} card", {"label": "card"}),
        ("label submit {request:.12} card", {"label": "card"}),
        ("label queue --json --fill 5", {"items": []}),
        ("label proposals --json", {"requests": 1, "proposals": []}),
        ("replay erase --key mary", {"rows": 0}),
        ("ledger recount", {"wrong": {"intent": {}}}),
        ("init --data {folder}/labels.csv", {"rows": 2, "labels": 2, "writes": None}),
    ],
)
def test_a_dry_run_tells_and_changes_nothing(untouched: Path, command: str, expected: dict[str, Any]) -> None:
    before = everything(untouched)
    words = [word.format(folder=untouched.parent, request=row_id(1.0, 0)) for word in command.split()]
    plan = cli(untouched, *words, "--dry-run")
    assert {name: plan[name] for name in expected} == expected
    assert everything(untouched) == before


@pytest.mark.parametrize(
    ("kind", "then"), [("approve", "promoting"), ("abort", "aborted"), ("promote", "promoting"), ("resume", "running")]
)
def test_a_dry_run_of_a_rollout_command_tells_the_next_state(waiting: Path, kind: str, then: str) -> None:
    before = everything(waiting)
    assert cli(waiting, "rollout", kind, "--dry-run")["then"] == then
    assert everything(waiting) == before


@pytest.mark.parametrize(
    ("command", "error", "message"),
    [
        ("model promote 9 --dry-run", NotFound, r"no bundle of version 9; on disk are \[1, 2, 3\]"),
        ("model rollback --to 9 --dry-run", NotFound, r"no bundle of version 9"),
        ("rollout approve --dry-run", Refused, "no cycle under way; start one with `perennial retrain`"),
        ("label submit nothing card --dry-run", InputError, "not of the form of an id"),
        ("label submit abcdef card --dry-run", NotFound, "no prediction begins with 'abcdef'; `perennial label queue"),
        (f"label submit {'0' * 32} card --dry-run", NotFound, "not in the traffic of intent"),
        ("label accept 1 loan --dry-run", NotFound, "proposals are none: look again with `perennial label proposals"),
        ("audit verify --anchor seven", InputError, "is not SEQ:HASH; give what `perennial audit verify` printed"),
    ],
)
def test_what_the_command_would_refuse_its_dry_run_refuses(
    untouched: Path, command: str, error: type[PerennialError], message: str
) -> None:
    with pytest.raises(error, match=message):
        cli(untouched, *command.split())


def test_a_second_cycle_is_refused_at_once(waiting: Path) -> None:
    for command in (["retrain"], ["retrain", "--dry-run"]):
        with pytest.raises(Refused, match=r"has cycle 1 under way \(approval\); see `perennial rollout show`"):
            cli(waiting, *command)


def test_an_anchor_from_elsewhere_shows_a_cut_end_and_a_chain_made_anew(tmp_path: Path) -> None:
    config = workspace_in(tmp_path)
    address = load_settings(config).ledger_address
    with Ledger.open(address) as ledger:
        for number in range(4):
            ledger.audit("ada", "act", None, {"n": number})
        entries = ledger.audit_entries()
    verdict = cli(config, "audit", "verify")
    assert verdict["anchor"] == f"5:{entries[-1].hash}"
    assert cli(config, "audit", "verify", "--anchor", verdict["anchor"])["intact"]
    assert cli(config, "audit", "verify", "--anchor", f"0:{'0' * 64}")["intact"]
    _cut(address, keep=3)
    assert cli(config, "audit", "verify")["intact"], "the chain and its head agree: only an anchor can tell"
    assert _broken(config, verdict["anchor"]) == (
        4,
        "the anchor tells of entry 5 and the log ends at 3: its end was cut off",
    )
    with Ledger.open(address) as ledger:
        for number in range(2):
            ledger.audit("ben", "act", None, {"n": number})
    assert _broken(config, verdict["anchor"])[1].endswith("the chain was made anew")


def _cut(address: str, *, keep: int) -> None:
    """Cut the end off, and the head with it, as somebody who may write the database would."""
    from sqlalchemy import delete, update

    from perennial.ops.ledger.schema import audit_entry, audit_head

    with Ledger.open(address) as ledger, ledger.engine.begin() as connection:
        connection.execute(delete(audit_entry).where(audit_entry.c.seq > keep))
        last = connection.execute(select(audit_entry.c.hash).where(audit_entry.c.seq == keep)).scalar_one()
        connection.execute(update(audit_head).values(seq=keep, hash=last))


def _broken(config: Path, anchor: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["audit", "verify", "--anchor", anchor, "--config", str(config)])
    assert done.exit_code == 1
    verdict = json.loads(done.stdout)
    assert not verdict["intact"]
    return verdict["broken_seq"], verdict["reason"]
