"""What the control API answers: the documents that its schemas describe and that the command line prints too."""

import json
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest
from typer.testing import CliRunner

from perennial.ops.cli.main import app
from perennial.ops.store.state import ACCURACY
from tests.component.api_server import RunningApi, answering
from tests.component.busy_model import NOON, make_busy
from tests.unit.deploy.queries import is_of_triton, labels_wrong, series_asked, series_told

pytestmark = pytest.mark.component

_ESTIMATE = {"value": 0.9, "low": 0.8, "high": 0.95, "rows": 300, "assumption": "labels came by chance", "contested": 1}
_OPEN = {
    "args",
    "detail",
    "facts",
    "lineage",
    "metrics",
    "trigger",
    "value",
}  # what these hold depends on who wrote them


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApi]:
    with answering(tmp_path_factory.mktemp("busy")) as api:
        make_busy(api.parts)
        yield api


def test_the_status_of_a_model_is_one_document(busy: RunningApi) -> None:
    status = busy.ask("get", "/v1/models/intent").json()
    cycle, since = status["cycle"], NOON.isoformat()
    story = cycle.pop("story")
    assert len(story) == 5
    assert all(isinstance(step, str) for step in story)
    times = (status["drift"].pop("at"), cycle.pop("opened_at"))
    assert all(datetime.fromisoformat(time).tzinfo is not None for time in times)
    figures = {"bound": 0.1, "run_length": 1e6, "labels": 40, "evidence": 1.0, "alarm_since": since}
    assert status == {
        "model": "intent",
        "unreadable": [],
        "champion": 2,
        "previous": 1,
        "challenger": None,
        "share": 0.0,
        "resident": [1, 2],
        "epoch": 1,
        "cycle": {
            "id": 1,
            "state": "approval",
            "reason": "drift",
            "challenger": 3,
            "closed_at": None,
            "outcome": None,
            "note": None,
        },
        "training": {"works": False, "behind": ["mail"], "since": since},
        "power": None,
        "worth": None,
        "drift": {"state": "alert", "rows": 300, "passed_over": 0, "processor_share": 0.0},
        "accuracy": {
            "version": 2,
            "at": since,
            "estimated": _ESTIMATE,
            "measured": _ESTIMATE,
            "reference": None,
            "errors": figures,
        },
        "labels": {"training": 1, "holdout": 0, "unlearnt": 1, "feedback": 0, "waiting": 0},
        "replay_rows": 1,
    }


def test_what_cannot_be_read_of_a_model_is_told_with_the_rest_of_it(busy: RunningApi) -> None:
    """A later release, or somebody's hand, wrote what this one does not know."""
    kept = busy.parts.ledger.get_state("intent", ACCURACY.name)
    busy.parts.ledger.put_state("intent", ACCURACY.name, {"nonsense": 1})
    try:
        answered = busy.ask("get", "/v1/models")
        one = busy.ask("get", "/v1/models/intent").json()
    finally:
        busy.parts.ledger.put_state("intent", ACCURACY.name, kept)
    assert answered.status_code == 200
    status = {status["model"]: status for status in answered.json()}["intent"]
    assert (status["champion"], status["accuracy"], status["replay_rows"]) == (2, None, 1)
    assert "'accuracy' of intent cannot be read" in status["unreadable"][0]
    assert one == status


def test_a_rollout_tells_its_figures_and_what_it_waits_for(busy: RunningApi) -> None:
    rollout, since = busy.ask("get", "/v1/models/intent/rollout").json(), NOON.isoformat()
    assert (rollout["paused"], rollout["cycle"]["state"]) == (True, "approval")
    assert rollout["route"] == {
        "model": "intent",
        "epoch": 1,
        "champion": 2,
        "previous": 1,
        "challenger": None,
        "share": 0.0,
        "resident": [1, 2],
    }
    assert rollout["waits"] == {"cycle": 1, "step": "LoadVersion", "error": "the server is away", "since": since}
    live = rollout["live"]
    assert {name: live[name] for name in ("phase", "cycle", "champion", "challenger", "since", "verdict")} == {
        "phase": "canary",
        "cycle": 1,
        "champion": 2,
        "challenger": 3,
        "since": since,
        "verdict": "undecided",
    }
    assert (live["gains"], live["ties"], live["waiting"], live["difference_points"]) == (1, 90, 3, -1.075)
    assert live["e_values"] == {"worse": 1.5, "slow": 0.25}


def test_windows_of_the_first_release_are_told_beside_newer_ones(busy: RunningApi) -> None:
    older, newer = busy.ask("get", "/v1/models/intent/drift").json()
    assert older["signal"] == newer["signal"]
    assert older["comparison"]["signals"][0]["result"]["p_value"] == 0.001
    assert (newer["signal"]["signals"], newer["signal"]["changed"]) == (["confidence"], True)
    assert newer["sequential"] == {"doubt": {"bound": 0.2, "evidence": 1.5, "alarms": 0}}
    assert (older["sequential"], older["after_id"], older["report_wanted"]) == ({}, "", False)


@pytest.mark.parametrize(
    ("path", "arguments"),
    [
        ("/v1/models", ["status"]),
        ("/v1/models/intent/versions", ["model", "list"]),
        ("/v1/models/intent/rollout", ["rollout", "show"]),
        ("/v1/models/intent/drift", ["drift", "watch"]),
        ("/v1/models/intent/descriptions", ["learn", "described"]),
        ("/v1/models/intent/labels/queue", ["label", "queue", "--dry-run"]),
        ("/v1/audit", ["audit", "show", "--limit", "100"]),
    ],
)
def test_the_command_line_prints_the_same_document(busy: RunningApi, path: str, arguments: list[str]) -> None:
    answer = busy.ask("get", path)
    assert answer.status_code == 200
    assert answer.json(), "there is something to tell"
    config = str(busy.parts.workspace.state.parent / "perennial.toml")
    done = CliRunner().invoke(app, [*arguments, "--json", "--config", config])
    assert done.exception is None, done.stderr
    printed = json.loads(done.stdout)
    assert _timed(printed["models"] if path == "/v1/models" else printed) == _timed(answer.json())


def _timed(document: Any) -> Any:
    """The document with its times as times: the command line prints them for people."""
    if isinstance(document, dict):
        return {name: _timed(value) for name, value in document.items()}
    if isinstance(document, list):
        return [_timed(value) for value in document]
    try:
        return datetime.fromisoformat(document) if isinstance(document, str) and document[:2] == "20" else document
    except ValueError:
        return document


def test_every_answer_has_a_schema_that_names_its_fields(busy: RunningApi) -> None:
    described = busy.app.openapi()
    schemas = described["components"]["schemas"]
    wrong = []
    answers = 0
    for path, methods in described["paths"].items():
        for method, operation in methods.items():
            for status, response in operation["responses"].items():
                for schema in (
                    kind["schema"] for media, kind in response.get("content", {}).items() if "json" in media
                ):
                    answers += 1
                    wrong += [f"{method} {path} {status}: {place}" for place in _open_places(schema, schemas, "$")]
    assert answers > 100
    assert not wrong


def _open_places(schema: dict[str, Any], schemas: dict[str, Any], place: str) -> Iterator[str]:
    """Where a schema says nothing: anything goes there, or an object of any fields."""
    if "$ref" in schema:
        yield from _open_places(schemas[schema["$ref"].rpartition("/")[2]], schemas, place)
    elif "anyOf" in schema:
        for each in schema["anyOf"]:
            yield from _open_places(each, schemas, place)
    elif schema.get("type") == "array":
        yield from _open_places(schema["items"], schemas, f"{place}[]")
    elif schema.get("type") == "object" and "properties" in schema:
        for name, each in schema["properties"].items():
            if name not in _OPEN:
                yield from _open_places(each, schemas, f"{place}.{name}")
    elif schema.get("type") == "object" and isinstance(schema.get("additionalProperties"), dict):
        yield from _open_places(schema["additionalProperties"], schemas, f"{place}.*")
    elif schema.get("type") not in {"string", "integer", "number", "boolean", "null"} and "enum" not in schema:
        yield place


def test_the_control_processs_series_are_those_that_rules_and_dashboard_read(busy: RunningApi) -> None:
    exposition = busy.ask("get", "/metrics").text
    asked = {name for name in series_asked() if not is_of_triton(name)}
    assert asked - series_told(exposition) == set()
    assert labels_wrong(exposition) == []
    assert len(asked) > 15
    assert 'perennial_cycle_step{model="intent",step="approval"} 1.0' in exposition
    for end, value in (("", 0.9), ("_low", 0.8), ("_high", 0.95)):
        assert f'perennial_accuracy_measured{end}{{model="intent"}} {value}' in exposition
