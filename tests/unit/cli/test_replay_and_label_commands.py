"""`replay …` and `label …` as a user types them, and the queue over HTTP."""

import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from typer.testing import CliRunner

from perennial.continual.errors import ConfigurationError, DataError, NotFound
from perennial.continual.learning.rows import read_rows
from perennial.continual.records import Example, Route
from perennial.continual.replay import make_buffer
from perennial.ops.api.app import create_api
from perennial.ops.api.origin import REQUEST_HEADER
from perennial.ops.cli.main import app
from perennial.ops.commands.label_queue import LabelQueue, OpenQueue
from perennial.ops.ledger import Ledger, VersionRow, version_card
from perennial.ops.safety.tokens import hashed
from perennial.ops.settings import ApiSettings, load_settings
from perennial.ops.store.event_feed import EventFeed
from perennial.ops.store.workspace import Workspace
from perennial.ops.traffic.writer import TrafficWriter
from tests.component.traffic_rows import columns, row_id

AT = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A workspace with a buffer of six rows, two of them Mary's, and ten answered requests."""
    path = tmp_path / "perennial.toml"
    path.write_text('state = "state"\nrepository = "repository"\n[models.intent.learning]\nreplay_rows = 10\n')
    workspace = Workspace(load_settings(path))
    buffer = make_buffer("class_balanced", 10, seed=1)
    for n in range(6):
        key = "mary" if n < 2 else None
        buffer.offer(Example(text=f"text {n}", label="card" if n % 3 else "loan", at=AT, key=key))
    with Ledger.open(workspace.settings.ledger_address) as ledger:
        ledger.register_model("intent", {})
        ledger.save_buffer("intent", buffer.state())
    writer = TrafficWriter(workspace.traffic("intent"), "test", dimension=3)
    writer.append(columns([float(n) for n in range(10)]))
    writer.close()
    return path


def cli(config: Path, *arguments: str) -> Any:
    done = CliRunner().invoke(app, [*arguments, "--config", str(config)])
    if done.exception is not None:
        raise done.exception
    return json.loads(done.stdout)


def test_replay_show_tells_the_rule_the_budgets_and_the_classes(config: Path) -> None:
    buffer = cli(config, "replay", "show", "--json")
    assert (buffer["kind"], buffer["rows"], buffer["capacity"], buffer["offered"]) == ("class_balanced", 6, 10, 6)
    assert buffer["classes"] == {"card": 4, "loan": 2}
    shown = CliRunner().invoke(app, ["replay", "show", "--config", str(config)])
    assert "class_balanced" in shown.stdout


def test_replay_export_writes_rows_that_a_job_reads(config: Path, tmp_path: Path) -> None:
    exported = cli(config, "replay", "export", str(tmp_path / "rows.jsonl"))
    assert exported["rows"] == 6
    rows = read_rows(tmp_path / "rows.jsonl")
    assert {row.text for row in rows} == {f"text {n}" for n in range(6)}
    assert sum(row.key == "mary" for row in rows) == 2


def test_replay_erase_removes_a_key_once_and_says_first_what_would_go(config: Path) -> None:
    assert cli(config, "replay", "erase", "--key", "mary", "--dry-run") == {"dry_run": True, "rows": 2}
    assert cli(config, "replay", "erase", "--key", "mary") == {"rows": 2, "left": 4}
    assert cli(config, "replay", "erase", "--key", "mary") == {"rows": 0, "left": 4}
    assert cli(config, "replay", "show", "--json")["rows"] == 4


def test_label_queue_fills_itself_and_submitted_requests_leave_it(config: Path) -> None:
    queue = cli(config, "label", "queue", "--json")
    assert len(queue["items"]) == 10
    assert queue["accuracy"] is None
    first = queue["items"][0]["prediction_id"]
    receipt = cli(config, "label", "submit", first, "refund")
    assert (receipt["new"], receipt["corrected"]) == (1, 0)
    assert cli(config, "label", "submit", first, "transfer")["corrected"] == 1
    left = cli(config, "label", "queue", "--json")
    assert first not in {item["prediction_id"] for item in left["items"]}
    assert left["accuracy"]["accuracy"] == 1.0
    assert cli(config, "label", "doubts", "--json") == []


def test_label_for_an_unknown_request_is_refused(config: Path) -> None:
    with pytest.raises(NotFound, match="not in the traffic of intent"):
        cli(config, "label", "submit", row_id(999.0, 1), "refund")


def test_label_queue_over_http_needs_a_labeller(config: Path) -> None:
    workspace = Workspace(load_settings(config))
    with Ledger.open(workspace.settings.ledger_address) as ledger:

        class Control:
            def labels_kept(self, model: str) -> None:
                assert model == "intent"

            def label_queue(self, model: str, *, limit: int, fill: int) -> OpenQueue:
                return LabelQueue(ledger, workspace, model).waiting(limit=limit, fill=fill)

        settings = ApiSettings(tokens={hashed("look"): "viewer", hashed("work"): "labeller"})
        app = create_api(ledger, Control(), EventFeed(), settings)  # type: ignore[arg-type]
        client = TestClient(app, base_url="http://localhost", headers={REQUEST_HEADER: "1"})
        url = "/v1/models/intent/labels/queue"
        assert client.get(url, headers={"Authorization": "Bearer look"}).status_code == 403
        work = {"Authorization": "Bearer work"}
        assert client.get(url, headers=work).json()["items"] == []
        filled = client.post(f"{url}?budget=4", headers=work).json()["items"]
        assert len(filled) == 4
        assert client.get(f"{url}?limit=2", headers=work).json()["items"] == filled[:2]
        body = {"model": "intent", "labels": [{"prediction_id": filled[0]["prediction_id"], "label": "refund"}]}
        assert client.post("/v1/feedback", json=body, headers=work).json()["new"] == 1
        assert len(client.get(url, headers=work).json()["items"]) == 3
        assert client.get("/v1/models/other/labels/queue", headers=work).status_code == 404


def test_a_fresh_user_is_told_what_to_do_next(config: Path, tmp_path: Path) -> None:
    """Usage errors end with 2, an empty key is refused, and a label that looks like a slip is named."""
    for wrong, message in (
        (["erase"], "Missing option '--key'"),
        (["label", "submit", "x"], "Missing argument 'label'"),
    ):
        done = subprocess.run(
            [sys.executable, "-m", "perennial.ops.cli", *wrong], capture_output=True, text=True, check=False
        )
        assert (done.returncode, message in done.stderr) == (2, True)
    with pytest.raises(ConfigurationError, match="--key is ' '"):
        cli(config, "replay", "erase", "--key", " ")
    with Ledger.open(load_settings(config).ledger_address) as ledger:
        ledger.add_version(VersionRow(model="intent", version=1, card=version_card(labels=("lost_card", "loan"))))
        route = Route(model="intent", epoch=1, champion=1, resident=(1,))
        ledger.set_route(route, expected_epoch=0, actor="me", reason="test")
    submitted = CliRunner().invoke(app, ["label", "submit", row_id(3.0, 3), "lost_crad", "--config", str(config)])
    assert "did you mean 'lost_card'?" in submitted.stderr
    file = tmp_path / "labels.csv"
    file.write_text(f"prediction_id,label\n{row_id(4.0, 4)},loan\n{row_id(999.0, 1)},loan\n")
    checked = CliRunner().invoke(app, ["feedback", "import", str(file), "--dry-run", "--config", str(config)])
    assert json.loads(checked.stdout) == {
        "dry_run": True,
        "would_store": 2,
        "kind": "labels of requests",
        "not_in_traffic": 1,
    }
    assert "1 of 2 prediction ids are not in the traffic log" in checked.stderr
    with Ledger.open(load_settings(config).ledger_address) as ledger:
        assert ledger.feedback_count("intent") == 1
    with pytest.raises(DataError, match="does not exist; give a file"):
        cli(config, "feedback", "import", str(tmp_path / "none.csv"))


def test_an_empty_log_has_an_empty_queue(tmp_path: Path) -> None:
    path = tmp_path / "empty.toml"
    path.write_text('state = "other"\nrepository = "repository"\n[models.intent]\n')
    assert cli(path, "label", "queue", "--json") == {"items": [], "accuracy": None}
    nothing = cli(path, "erase", "--key", "nobody", "--dry-run")
    assert (nothing["models"]["intent"]["examples"], nothing["models"]["intent"]["tuned"]) == (0, [])
