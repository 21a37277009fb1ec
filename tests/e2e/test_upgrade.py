"""A workspace of the first formats opens, serves and goes on, with its ledger in SQLite and in PostgreSQL.

`first_workspace.tar.xz` was written by an earlier release: its ledger has schema 0002, the files of its traffic log
state no format, and its bundles have the first manifest. Version 1 was trained on 300 rows about three subjects.
Version 2 came from a cycle that learnt a fourth, `fees`, from labels of answered requests; it is the champion.
"""

import shutil
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pyarrow.parquet as pq
import pytest
from sqlalchemy import NullPool, create_engine, text

from perennial.ops.app.wiring import open_parts
from perennial.ops.ledger import Ledger
from perennial.ops.settings import load_settings
from perennial.ops.store.state import WATCH
from perennial.ops.traffic import TrafficLog
from tests.component.databases import BACKENDS, OldLedger, empty_url
from tests.e2e.conftest import requests_about
from tests.e2e.workspace import E2eWorkspace, ask, make_workspace, wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

FIRST = Path(__file__).parent / "first_workspace.tar.xz"
SUBJECTS = ["card", "fees", "loan", "trip"]
ME = "caller-7"


@dataclass(frozen=True, kw_only=True)
class Upgraded:
    """The workspace, and every row that its ledger had before anything of today touched it."""

    made: E2eWorkspace
    rows: dict[str, list[dict[str, Any]]]

    @property
    def traffic(self) -> Path:
        return self.made.folder / "state" / "traffic" / "intent"


@pytest.fixture(params=BACKENDS)
def upgraded(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Upgraded]:
    with tarfile.open(FIRST) as archive:
        archive.extractall(tmp_path, filter="data")
    made = make_workspace(tmp_path, tmp_path / "encoder")
    file = tmp_path / "state" / "ledger.db"
    old = OldLedger(f"sqlite:///{file}")
    upgraded = Upgraded(made=made, rows=old.everything())
    assert upgraded.rows["alembic_version"] == [{"version_num": "0002"}]
    if request.param == "sqlite":
        yield upgraded
        return
    with empty_url(request.param, tmp_path) as url:
        new = OldLedger(url)
        new.move("0002")
        new.put(upgraded.rows)
        file.unlink()
        made.config.write_text(f'ledger_url = "{url}"\n{made.config.read_text()}')
        yield upgraded


def current(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [row for row in rows if row["superseded_at"] is None]


def check_rows(ledger: Ledger, rows: dict[str, list[dict[str, Any]]]) -> None:
    """Every example, label and buffer row is what the old ledger told of it."""
    kept = {(s.id, s.example.text, s.example.label, s.example.key) for s in ledger.examples("intent")}
    assert kept == {(row["id"], row["text"], row["label"], row["key"]) for row in current(rows["example"])}
    labels = {row["prediction_id"]: row["label"] for row in rows["feedback"]}
    assert ledger.feedback_labels("intent", list(labels)) == labels
    given = ledger.given_labels("intent", list(labels))
    assert len(given) == len(rows["feedback_history"]) > len(labels), "one label was corrected"
    buffer = ledger.load_buffer("intent")
    assert buffer is not None
    by_place = sorted(rows["buffer_row"], key=lambda row: int(row["position"]))
    assert [(row.text, row.label) for row in buffer.rows] == [(row["text"], row["label"]) for row in by_place]
    for row, old_row in zip(ledger.versions("intent"), rows["version"], strict=True):
        assert (row.version, list(row.labels)) == (old_row["version"], old_row["labels"])
        assert (row.encoder_fingerprint, row.metrics) == (old_row["encoder_fingerprint"], old_row["metrics"])
    assert ledger.verify_audit().intact


def lose_and_restore(upgraded: Upgraded) -> None:
    """An upgrade with its backup, and then a disaster: everything but the settings is gone, the database too."""
    made = upgraded.made
    backup = made.folder / "backups" / "one"
    assert made.here("upgrade", "--dry-run")["would_change"]["schema"] == "0002"
    assert made.here("upgrade", "--backup", str(backup))["done"]
    settings = load_settings(made.config)
    shutil.rmtree(settings.state)
    shutil.rmtree(settings.repository)
    if not settings.ledger_address.startswith("sqlite"):
        engine = create_engine(
            settings.ledger_address.replace("postgresql:", "postgresql+psycopg:"), poolclass=NullPool
        )
        with engine.begin() as connection:
            connection.execute(text("DROP SCHEMA public CASCADE; CREATE SCHEMA public"))
    assert made.here("restore", str(backup))["restored"]["schema"] == "0002"


def test_a_workspace_of_the_first_formats_serves_and_goes_on(
    upgraded: Upgraded, request: pytest.FixtureRequest
) -> None:
    made, rows = upgraded.made, upgraded.rows
    lose_and_restore(upgraded)
    assert [v["version"] for v in made.cli("model", "list", "--json")] == [1, 2]
    ledger = open_parts(made.config).ledger
    request.addfinalizer(ledger.close)
    check_rows(ledger, rows)
    log = TrafficLog(upgraded.traffic)
    before = log.read()
    assert set(before["prediction"].to_pylist()) == set(SUBJECTS)
    assert {ME, "caller-9"} <= log.distinct_keys()
    assert not any((pq.read_schema(path).metadata or {}).get(b"perennial.format") for path in parquet(upgraded))

    with made.serving(), made.client() as client:
        assert made.status()["champion"] == 2
        rest = [row["text"] for row in rows["example"] if row["label"] == "fees"]
        assert {answer.label for answer in ask(client, rest[:20])} == {"fees"}, "as it learnt it"
        requests = requests_about(SUBJECTS, 300, seed=11)
        answers = ask(client, [text for text, _ in requests])
        assert {answer.version for answer in answers} == {2}
        pairs = [(answer.prediction_id, label) for answer, (_, label) in zip(answers, requests, strict=True)]
        assert made.feedback(pairs)["new"] == 300

        def watched() -> bool:
            watch = WATCH.read(ledger, "intent")
            return watch is not None and watch.version == 2 and watch.windows > 0

        wait_for(watched, 120, "a drift window of version 2")

        url = f"http://127.0.0.1:{made.api}/v1/models/intent"
        wait_for(lambda: ledger.unlearnt_count("intent") > 200, 60, "the labels' join")
        httpx.post(f"{url}/retrain", json={}, timeout=20).raise_for_status()
        wait_for(lambda: made.status()["champion"] == 3, 300, "version 3 to answer")
        wait_for(lambda: made.status()["cycle"] is None, 60, "the end of probation")
        assert made.status()["replay_rows"] == 60
        assert ledger.version("intent", 3).labels == tuple(SUBJECTS)

        rolled = made.cli("model", "rollback", "--reason", "test")
        assert (rolled["champion"], rolled["previous"]) == (2, 3)
        wait_for(lambda: client.predict(["my card"])[0].version == 2, 30, "version 2 to answer")

        receipt = made.cli("erase", "--key", ME)
        assert (receipt["complete"], receipt["search"]["left"], receipt["search"]["not_searched"]) == (True, [], [])
        mine = [row for row in current(rows["example"]) if row["key"] == ME]
        erased = receipt["models"]["intent"]
        assert erased["examples"] >= len(mine) > 0
        assert erased["traffic_rows"] == before["key"].to_pylist().count(ME) > 0
        assert log.distinct_keys() >= {"caller-9"}
        assert ME not in log.distinct_keys()
        champion = made.status()["champion"]
        wait_for(lambda: client.predict(["my card"])[0].version == champion, 60, "what was corrected to answer")
    assert ME not in {stored.example.key for stored in ledger.examples("intent")}
    assert ledger.verify_audit().intact


def parquet(upgraded: Upgraded) -> list[Path]:
    found = sorted((upgraded.traffic / "parquet").glob("*.parquet"))
    assert found
    return found
