"""Three sites with a workspace each exchange sums by the command line, in processes of their own."""

import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from perennial.continual.errors import DataError, NotFound, Refused
from perennial.continual.learning.card import read_card
from perennial.continual.learning.context import Context
from perennial.continual.learning.fast import train_fast
from perennial.continual.learning.names import LearnerName
from perennial.continual.learning.rows import write_rows
from perennial.continual.learning.spec import JobSpec
from perennial.continual.learning.trained import OTHERS_FILE, STATISTICS_FILE, read_head
from perennial.continual.records import Example, Route
from perennial.ops.cli.main import app
from perennial.ops.ledger import Ledger, VersionRow, VersionState, version_card
from perennial.ops.making.demands import Demands
from perennial.ops.making.version_maker import VersionMaker
from perennial.ops.settings import load_settings
from perennial.ops.store.federation import Federation
from perennial.ops.store.workspace import Workspace
from tests.e2e.conftest import requests_about

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

SITES = {"east": ["card", "loan"], "north": ["trip", "card"], "west": ["fees", "loan"]}
PARAMS = {"features": 60, "lexical": 60, "shrinkage": 0.1, "words": 0.3, "priors": "empirical"}
_TOML = """
state = "state"
repository = "repository"
[models.intent.learning]
encoder = "{encoder}"
learner = "ridge"
max_length = 32
params = {{ features = 60, lexical = 60, shrinkage = 0.1, words = 0.3, priors = "empirical" }}
"""


def rows_of(name: str) -> list[Example]:
    pairs = requests_about(SITES[name], 60, seed=list(SITES).index(name))
    return [Example(text=text, label=label, at=datetime(2026, 1, 1, tzinfo=UTC)) for text, label in pairs]


def trained(encoder: Path, rows: list[Example], out: Path) -> Path:
    write_rows(out.parent / "rows.jsonl", rows)
    spec = JobSpec(
        learner=LearnerName.RIDGE,
        encoder=str(encoder),
        examples=out.parent / "rows.jsonl",
        out=out,
        max_length=32,
        threads=1,
        nice=0,
        params=PARAMS,
    )
    train_fast(spec, Context())
    return out


def workspace_in(folder: Path, encoder: Path, name: str) -> Path:
    """A site whose first version is trained and answers, as far as files and ledger tell."""
    folder.mkdir()
    config = folder / "perennial.toml"
    config.write_text(_TOML.format(encoder=encoder))
    workspace = Workspace(load_settings(config))
    bundle = workspace.bundle("intent", 1)
    bundle.parent.mkdir(parents=True)
    trained(encoder, rows_of(name), bundle)
    with Ledger.open(workspace.settings.ledger_address) as ledger:
        ledger.register_model("intent", {})
        card = version_card(labels=SITES[name])
        ledger.add_version(VersionRow(model="intent", version=1, state=VersionState.PUBLISHED, card=card))
        route = Route(model="intent", epoch=1, champion=1, previous=None, resident=(1,))
        ledger.set_route(route, expected_epoch=0, actor="test", reason="first")
        workspace.write_route(route)
    return config


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory, tiny_encoder: Path) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("sites")
    return {name: workspace_in(folder / name, tiny_encoder, name) for name in SITES}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("exchange")


def at_all(sites: dict[str, Path], *arguments: str) -> dict[str, Any]:
    """The command at every site at once, in a process of its own; each answer by its site."""
    running = {}
    for name, config in sites.items():
        command = [sys.executable, "-m", "perennial.ops.cli", "federate", *arguments, "--config", str(config)]
        running[name] = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    answers = {}
    for name, process in running.items():
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
        answers[name] = json.loads(out)
    return answers


def here(config: Path, *arguments: str) -> Any:
    done = CliRunner().invoke(app, ["federate", *arguments, "--config", str(config)])
    if done.exception is not None:
        raise done.exception
    return json.loads(done.stdout)


def test_three_processes_exchange_sums_and_each_learns_from_all(
    sites: dict[str, Path], folder: Path, tiny_encoder: Path, tmp_path: Path
) -> None:
    with pytest.raises(NotFound, match="there is no folder"):
        here(sites["east"], "announce", str(folder / "none"), "--site", "east")
    announced = {name: here(config, "announce", str(folder), "--site", name) for name, config in sites.items()}
    assert {said["rows"] for said in announced.values()} == {60}
    digest = json.loads(CliRunner().invoke(app, ["federate", "show", str(folder)]).stdout)["round"]
    with pytest.raises(Refused, match="another site or key"):
        here(sites["east"], "send", str(folder), "--round", digest[:31])
    sent = at_all(sites, "send", str(folder), "--sites", "3", "--round", digest)
    assert {one["round"] for one in sent.values()} == {digest}
    assert {(one["masked"], *one["sites"]) for one in sent.values()} == {(True, *sorted(SITES))}
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o644}, "other sites may be other users"
    assert here(sites["east"], "take", str(folder), "--dry-run")["rows"] == 120
    taken = here(sites["east"], "take", str(folder))
    assert (taken["sites"], taken["rows"], taken["new_classes"]) == (["north", "west"], 120, ["fees", "trip"])
    assert taken["command"] == 1, "a retraining is asked for"
    with pytest.raises(NotFound, match="has taken its sums already"):
        here(sites["east"], "take", str(folder))

    workspace = Workspace(load_settings(sites["east"]))
    with Ledger.open(workspace.settings.ledger_address) as ledger:
        assert [entry.action for entry in ledger.audit_entries("intent")][-3:] == [
            "federation.sent",
            "federation.took",
            "command.retrain",
        ]
        champion = ledger.version("intent", 1)
        ledger.add_version(VersionRow(model="intent", version=2, state=VersionState.TRAINING))
        maker = VersionMaker(ledger, workspace, "intent")
        made = maker.train(2, champion, maker.rows.training_rows(champion), lambda _: None)
        assert Demands.on(ledger, workspace, "intent", 2, champion).old_among_all, "own rows must not be drawn away"
        here(sites["east"], "leave")
        assert Demands.on(ledger, workspace, "intent", 2, champion).old_among_all, (
            "it was made with others all the same"
        )
        (maker.folder(2) / "trained" / "model.json").rename(tmp_path / "model.json")
        assert not Demands.on(ledger, workspace, "intent", 2, champion).old_among_all
        (tmp_path / "model.json").rename(maker.folder(2) / "trained" / "model.json")
    card = read_card(made)
    assert (card.data["rows"], card.data["rows_of_others"]) == (60, 120)
    assert (made / OTHERS_FILE).is_file()
    rows = [row for name in SITES for row in rows_of(name)]
    (tmp_path / "central").mkdir()
    central = read_head(trained(tiny_encoder, rows, tmp_path / "central" / "model"))
    merged = read_head(made)
    assert merged.labels == central.labels
    np.testing.assert_allclose(merged.weight, central.weight, atol=1e-6)
    with pytest.raises(NotFound, match="nothing to leave"):
        here(sites["east"], "leave")


def test_few_rows_and_a_version_that_has_gone_are_not_sent(
    sites: dict[str, Path], tmp_path: Path, tiny_encoder: Path
) -> None:
    west, bundle = sites["west"], Workspace(load_settings(sites["west"])).bundle("intent", 1)
    (tmp_path / "round").mkdir()
    here(west, "announce", str(tmp_path / "round"), "--site", "west")
    whole = (bundle / STATISTICS_FILE).read_bytes()
    trained(tiny_encoder, [row for number, row in enumerate(rows_of("west")) if number < 12], bundle)
    try:
        with pytest.raises(Refused, match=r"2 classes have fewer than 10 rows.*: fees \(6\), loan \(6\)"):
            here(west, "send", str(tmp_path / "round"))
    finally:
        (bundle / STATISTICS_FILE).write_bytes(whole)
    shown = CliRunner().invoke(app, ["federate", "show", str(tmp_path / "round")])
    told = json.loads(shown.stdout)
    assert (told["announced"], told["sent"], told["closed"], len(told["round"])) == (["west"], [], False, 64)


def test_noise_is_spent_once_for_a_round_and_refused_once_the_budget_is_spent(
    sites: dict[str, Path], tmp_path: Path
) -> None:
    north, south = (sites[name].with_name("private.toml") for name in ("north", "east"))
    for config, name in ((north, "north"), (south, "east")):
        config.write_text(sites[name].read_text() + "[models.intent.federation]\nepsilon = 1.0\n")
    first, second = tmp_path / "first", tmp_path / "second"
    for folder in (first, second):
        folder.mkdir()
    with pytest.raises(Refused, match="have a budget of epsilon 1, and sums without noise"):
        here(north, "announce", str(first), "--site", "north")
    announced = here(north, "announce", str(first), "--site", "north", "--epsilon", "0.9")
    assert (announced["epsilon"], announced["delta"]) == (0.9, 1e-5)
    with pytest.raises(Refused, match="1 sites have announced"):
        here(north, "send", str(first), "--open")
    assert Federation(Workspace(load_settings(north)), "intent").spent == (), "what cannot be sent costs nothing"
    here(south, "announce", str(first), "--site", "south", "--epsilon", "0.9")
    for _ in range(2):
        assert here(north, "send", str(first), "--open")["epsilon_spent"] == pytest.approx(0.9)
    assert json.loads((first / "north.site.json").read_text())["rows"] == 0
    here(south, "send", str(first), "--open")
    _renumber(south)
    for config, other in ((north, "south"), (south, "north")):
        assert here(config, "take", str(first), "--dry-run")["sites"] == [other]
    with pytest.raises(Refused, match=r"with epsilon 0\.9 and delta 1e-05, not epsilon 0\.5 and"):
        here(north, "announce", str(first), "--site", "north", "--epsilon", "0.5")
    (first / "sites.json").unlink()
    here(sites["west"], "announce", str(first), "--site", "west")
    here(north, "announce", str(first), "--site", "north")
    with pytest.raises(DataError, match="are others than those that sums were sent to"):
        here(north, "send", str(first))

    for config, name in ((north, "north"), (south, "south")):
        here(config, "announce", str(second), "--site", name, "--epsilon", "0.9")
    with pytest.raises(Refused, match=r"epsilon would be 1\.\d+ at delta 1e-05, and the budget is 1, of which 1"):
        here(north, "send", str(second), "--open")
    assert not list(second.glob("*.sums.safetensors"))


def _renumber(config: Path) -> None:
    """The version that was announced has been removed since, and another one with the same features answers."""
    workspace = Workspace(load_settings(config))
    workspace.bundle("intent", 1).rename(workspace.bundle("intent", 7))
    with Ledger.open(workspace.settings.ledger_address) as ledger:
        ledger.add_version(VersionRow(model="intent", version=7, state=VersionState.PUBLISHED))
        route = Route(model="intent", epoch=2, champion=7, previous=None, resident=(7,))
        ledger.set_route(route, expected_epoch=1, actor="test", reason="later")


def test_a_budget_that_is_set_later_holds_for_what_was_announced_before(sites: dict[str, Path], tmp_path: Path) -> None:
    strict = sites["west"].with_name("strict.toml")
    strict.write_text(sites["west"].read_text() + "[models.intent.federation]\nepsilon = 1.0\n")
    here(sites["west"], "announce", str(tmp_path), "--site", "west")
    with pytest.raises(Refused, match="have a budget of epsilon 1, and sums without noise"):
        here(strict, "send", str(tmp_path), "--open")
