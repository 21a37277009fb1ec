"""Classes that begin as a name and a sentence: the commands, the API, and what a training is told of them."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from typer.testing import CliRunner

from perennial.continual.errors import DataError, InputError, NotFound
from perennial.continual.records import Example, Route, Split
from perennial.ops.api.app import create_api
from perennial.ops.api.origin import REQUEST_HEADER
from perennial.ops.cli.main import app
from perennial.ops.ledger import Ledger, VersionRow, version_card
from perennial.ops.making.demands import Demands
from perennial.ops.making.rows import ModelRows
from perennial.ops.making.starting_point import learner_params
from perennial.ops.safety.tokens import hashed
from perennial.ops.settings import ApiSettings, LearningSettings, ModelSettings, Settings, load_settings
from perennial.ops.store.event_feed import EventFeed
from perennial.ops.store.workspace import Workspace

AT = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "perennial.toml"
    path.write_text('state = "state"\nrepository = "repository"\n[models.intent]\n')
    return path


def cli(config: Path, *arguments: str) -> Any:
    done = CliRunner().invoke(app, ["learn", *arguments, "--config", str(config)])
    if done.exception is not None:
        raise done.exception
    return json.loads(done.stdout)


def opened(config: Path) -> Ledger:
    return Ledger.open(load_settings(config).ledger_address)


def serve_version(ledger: Ledger, labels: tuple[str, ...] = ("card", "loan")) -> VersionRow:
    row = VersionRow(model="intent", version=ledger.next_version("intent"), card=version_card(labels=labels))
    ledger.add_version(row)
    route = Route(model="intent", epoch=1, champion=row.version, resident=(row.version,))
    ledger.set_route(route, expected_epoch=0, actor="me", reason="test")
    return row


def test_a_class_is_described_changed_listed_and_dropped(config: Path) -> None:
    assert cli(config, "describe", "trip", "A journey is planned.", "--dry-run")["described"] == ["trip"]
    assert cli(config, "described", "--json") == []
    assert cli(config, "describe", "trip", "A journey is planned.")["described"] == ["trip"]
    assert cli(config, "describe", "trip", "A journey is planned.")["unchanged"] == ["trip"]
    assert cli(config, "describe", "trip", "Someone travels.")["changed"] == ["trip"]
    (listed,) = cli(config, "described", "--json")
    assert (listed["label"], listed["description"]) == ("trip", "Someone travels.")
    assert (listed["rows"], listed["counts_for_rows"], listed["served"]) == (0, 5, False)
    assert cli(config, "undescribe", "trip", "--dry-run")["dropped"] == "trip"
    assert len(cli(config, "described", "--json")) == 1
    assert cli(config, "undescribe", "trip")["dropped"] == "trip"
    with pytest.raises(NotFound, match="'trip' of intent has no description; described are none"):
        cli(config, "undescribe", "trip")
    with opened(config) as ledger:
        changes = [(entry.action, entry.detail["before"]) for entry in ledger.audit_entries("intent")]
        assert ledger.verify_audit().intact
    assert changes == [
        ("class.described", None),
        ("class.described", "A journey is planned."),
        ("class.description_dropped", "Someone travels."),
    ]


def test_several_classes_come_from_a_file_all_or_none(config: Path, tmp_path: Path) -> None:
    file = tmp_path / "classes.csv"
    file.write_text("label,description\ntrip,A journey is planned.\nfees,A charge is disputed.\n")
    assert cli(config, "describe", "--file", str(file))["described"] == ["fees", "trip"]
    for content, message in (
        ("label,text\na,b\n", "needs the columns 'label' and 'description'"),
        ("label,description\na,\n", "line 2: label 'a'"),
        ("label,description\na,b\na,c\n", "described twice"),
    ):
        file.write_text(content)
        with pytest.raises(DataError, match=message):
            cli(config, "describe", "--file", str(file))
    with pytest.raises(DataError, match="does not exist; give a file"):
        cli(config, "describe", "--file", str(tmp_path / "none.csv"))
    assert len(cli(config, "described", "--json")) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "give a label and a sentence in quotation marks"),
        (("trip",), "give a label and a sentence in quotation marks"),
        (("trip", "  "), "description of 'trip' is empty"),
        (("\u200b", "A journey."), "is empty or holds nothing that can be seen"),
        (("trip", "word " * 500), "2499 characters; at most 2000 are allowed"),
    ],
)
def test_what_is_missing_or_wrong_is_named(config: Path, arguments: tuple[str, ...], message: str) -> None:
    with pytest.raises(InputError, match=message):
        cli(config, "describe", *arguments)


def test_a_retraining_is_asked_for_when_something_serves(config: Path) -> None:
    assert cli(config, "describe", "trip", "A journey.", "--retrain")["command"] is None
    with opened(config) as ledger:
        serve_version(ledger)
        command = cli(config, "describe", "fees", "A charge.", "--retrain")["command"]
        assert ledger.command(command).args == {"reason": "described classes"}
        ledger.open_cycle("intent", "test", {}, state="training")
        assert cli(config, "undescribe", "fees", "--retrain")["command"] is None


def test_descriptions_over_http_are_read_by_viewers_and_written_by_operators(config: Path) -> None:
    with opened(config) as ledger:
        ledger.register_model("intent", {"learning": {"params": {"anchor_rows": 8}}})
        settings = ApiSettings(tokens={hashed("look"): "viewer", hashed("work"): "labeller", hashed("run"): "operator"})
        app = create_api(ledger, None, EventFeed(), settings)  # type: ignore[arg-type]
        client = TestClient(app, base_url="http://localhost", headers={REQUEST_HEADER: "1"})
        look, work, run = ({"Authorization": f"Bearer {name}"} for name in ("look", "work", "run"))
        url = "/v1/models/intent/descriptions"
        body = {"description": "A journey is planned."}
        assert client.put(f"{url}/trip", json=body, headers=work).status_code == 403
        assert client.put(f"{url}/trip", json=body, headers=run).json()["described"] == ["trip"]
        (described,) = client.get(url, headers=look).json()
        assert (described["label"], described["by"], described["counts_for_rows"]) == ("trip", "operator", 8)
        assert client.put(f"{url}/trip", json={"description": ""}, headers=run).status_code == 422
        assert client.delete(f"{url}/trip", headers=look).status_code == 403
        assert client.delete(f"{url}/trip", headers=run).json()["rows"] == 0
        assert client.delete(f"{url}/trip", headers=run).status_code == 404
        assert client.get("/v1/models/other/descriptions", headers=look).status_code == 404


def test_a_training_is_told_the_sentences_and_learns_the_first_row(config: Path) -> None:
    workspace = Workspace(load_settings(config))
    assert cli(config, "describe", "trip", "A journey.")["described"] == ["trip"]
    with opened(config) as ledger:
        champion = serve_version(ledger)
        rows = [Example(text=f"{label} 1", label=label, at=AT) for label in ("trip", "slip")]
        ledger.add_examples("intent", rows, lambda _: Split.TRAIN)
        found = ModelRows(ledger, workspace, "intent").training_rows(champion)
        assert [s.example.label for s in found.fresh] == ["trip"]  # one row of a class that nobody described is none
        assert cli(config, "described", "--json")[0]["counts_for_rows"] == 4
        assert learner_params(ledger, workspace, "intent") == {"descriptions": {"trip": "A journey."}}
        params = {"descriptions": {"trip": "An older sentence.", "fees": "A charge."}}
        assert learner_params(ledger, _with(workspace, params=params), "intent")["descriptions"] == {
            "trip": "A journey.",
            "fees": "A charge.",
        }
        slow = _with(workspace, learner="finetune", params={"head_settings": {"features": 9}})
        assert learner_params(ledger, slow, "intent") == {
            "head_settings": {"features": 9, "descriptions": {"trip": "A journey."}}
        }
        fast_first = _with(workspace, first_learner="ridge", learner="finetune", params={"head": "fused"})
        described = {"trip": "A journey."}
        assert learner_params(ledger, fast_first, "intent") == {"descriptions": described}
        later = learner_params(ledger, fast_first, "intent", champion)
        assert later == {"head": "fused", "head_settings": {"descriptions": described}}


def test_the_gate_asks_a_described_class_for_no_gain_but_lets_it_draw_nothing_away(config: Path) -> None:
    workspace = Workspace(load_settings(config))
    cli(config, "describe", "trip", "A journey.")
    with opened(config) as ledger:
        champion = serve_version(ledger)
        for labels, added in ((("card", "loan"), False), (("card", "loan", "slip"), False), (("card", "trip"), True)):
            number = ledger.next_version("intent")
            ledger.add_version(VersionRow(model="intent", version=number, card=version_card(labels=labels)))
            demands = Demands.on(ledger, workspace, "intent", number, champion)
            assert demands.old_among_all is added
            assert demands.rules["min_fresh_rows"] == (0 if added else 20)
        ledger.add_examples("intent", [Example(text="t", label="trip", at=AT)], lambda _: Split.HOLDOUT)
        assert Demands.on(ledger, workspace, "intent", number, champion).rules["min_fresh_rows"] == 20


def _with(workspace: Workspace, **learning: Any) -> Workspace:
    settings = workspace.settings
    models = {"intent": ModelSettings(learning=LearningSettings(**learning))}
    return Workspace(Settings(state=settings.state, repository=settings.repository, models=models))
