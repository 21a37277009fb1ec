"""Requests of no class become proposals, and an accepted one becomes labels."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from perennial.continual.errors import ConfigurationError, DataError, NotFound
from perennial.continual.labelling import Shares
from perennial.ops.cli.main import app
from perennial.ops.commands.class_proposals import ClassProposals
from perennial.ops.commands.label_queue import LabelQueue
from perennial.ops.ledger import FeedbackRow, Ledger
from perennial.ops.settings import Settings
from perennial.ops.store.workspace import Workspace
from perennial.ops.traffic import TrafficLog, TrafficWriter
from tests.component.traffic_rows import columns

NOW = datetime(2026, 3, 2, tzinfo=UTC)
LOANS, TRIPS = range(30, 42), range(42, 50)
TOPICS = {**dict.fromkeys(LOANS, "a mortgage for house"), **dict.fromkeys(TRIPS, "flights to town")}


@pytest.fixture
def world(tmp_path: Path) -> Iterator[tuple[Ledger, Workspace]]:
    """Fifty requests: thirty of known classes, twelve and eight of two other subjects; the last is of none."""
    models = {"intent": {}, "shop": {"task": "ranking"}}
    workspace = Workspace(Settings(state=tmp_path / "state", repository=tmp_path / "repository", models=models))
    ledger = Ledger.open(workspace.settings.ledger_address)
    ledger.register_model("intent", {})
    rows = columns([float(n) for n in range(51)], dimension=16)
    eye, rng = np.eye(16), np.random.default_rng(0)
    centres = [eye[1] if n in LOANS else eye[2] if n in TRIPS else eye[15] if n == 50 else eye[0] for n in range(51)]
    embeddings = np.array(centres) + 0.05 * rng.standard_normal((51, 16))
    rows["embedding"] = (embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)).astype(np.float32)
    rows["text"] = [f"{TOPICS.get(n, 'card lost')} {n}" for n in range(51)]
    rows["known"] = [True] * 30 + [False] * 21
    writer = TrafficWriter(workspace.traffic("intent"), "test", dimension=16)
    writer.append(rows)
    writer.close()
    yield ledger, workspace
    ledger.close()


@pytest.fixture
def proposals(world: tuple[Ledger, Workspace]) -> ClassProposals:
    return ClassProposals(*world, "intent")


def ids_of(world: tuple[Ledger, Workspace]) -> list[str]:
    ids: list[str] = TrafficLog(world[1].traffic("intent")).read(columns=["prediction_id"])["prediction_id"].to_pylist()
    return ids


def test_texts_alike_of_no_class_are_a_proposal_each(proposals: ClassProposals) -> None:
    found = proposals.look()
    assert (found.requests, found.of_no_class, found.untold) == (51, 21, 0)
    assert [(p.number, p.rows, p.answered_as) for p in found.proposals] == [
        (1, 12, ("transfer",)),
        (2, 8, ("transfer",)),
    ]
    assert set(found.proposals[0].name.split("_")) <= {"mortgage", "house"}
    assert set(found.proposals[1].name.split("_")) <= {"flights", "town"}
    assert all("mortgage" in text for text in found.proposals[0].texts)


def test_an_accepted_proposal_labels_its_requests_and_no_others(
    proposals: ClassProposals, world: tuple[Ledger, Workspace]
) -> None:
    ids = ids_of(world)
    proposals.look()
    planned = proposals.accept(1, "loan", now=NOW, dry_run=True)
    assert world[0].feedback_labels("intent", ids) == {}
    world[0].add_feedback("intent", [FeedbackRow(prediction_id=ids[30], label="refund", at=NOW)])
    done = proposals.accept(1, "loan", now=NOW)
    assert (planned.labelled, done.labelled, done.label, done.least_rows) == (12, 11, "loan", 5)
    assert world[0].feedback_labels("intent", ids) == {ids[30]: "refund"} | {ids[n]: "loan" for n in range(31, 42)}
    with pytest.raises(NotFound, match=r"proposal 1 of intent has no request without a label; proposals are 2"):
        proposals.accept(1, "loan", now=NOW)
    assert [p.rows for p in proposals.look().proposals] == [8], "what has a label is proposed no more"


def test_erased_requests_are_of_no_proposal(proposals: ClassProposals, world: tuple[Ledger, Workspace]) -> None:
    proposals.look()
    TrafficLog(world[1].traffic("intent")).prune(NOW + timedelta(days=365))
    with pytest.raises(NotFound, match="has no request without a label"):
        proposals.accept(1, "loan", now=NOW)
    assert proposals.look().proposals == ()


def test_a_label_that_is_none_and_a_number_that_is_none_are_refused(proposals: ClassProposals) -> None:
    with pytest.raises(NotFound, match=r"proposals are none: look again with `perennial label proposals"):
        proposals.accept(1, "loan", now=NOW)
    proposals.look()
    with pytest.raises(DataError, match="label"):
        proposals.accept(1, "  ", now=NOW)


def test_the_command_shows_proposals_and_accepts_one(world: tuple[Ledger, Workspace], tmp_path: Path) -> None:
    config = tmp_path / "perennial.toml"
    config.write_text(f'state = "{tmp_path}/state"\nrepository = "{tmp_path}/repository"\n[models.intent]\n')

    def cli(*words: str) -> Any:
        done = CliRunner().invoke(app, ["label", *words, "--config", str(config)])
        assert done.exit_code == 0, done.output
        return done

    shown = cli("proposals")
    assert "21 of the newest 51 requests (41.2%) are of no class; groups of texts alike: 2" in shown.stderr
    assert "mortgage" in shown.stdout
    assert "perennial label accept PROPOSAL NAME --model intent" in shown.stderr
    assert [p["rows"] for p in json.loads(cli("proposals", "--json").stdout)["proposals"]] == [12, 8]
    assert json.loads(cli("accept", "2", "trip").stdout) == {"label": "trip", "labelled": 8, "least_rows": 5}
    assert set(world[0].feedback_labels("intent", ids_of(world)).values()) == {"trip"}


def test_a_recommender_has_no_classes(world: tuple[Ledger, Workspace]) -> None:
    with pytest.raises(ConfigurationError, match="ranking, which has no classes"):
        ClassProposals(*world, "shop")


def test_the_labelling_queue_asks_for_requests_of_no_class_first(world: tuple[Ledger, Workspace]) -> None:
    queue = LabelQueue(*world, "intent")
    items = queue.refill(budget=20, shares=Shares(uniform=0.3, uncertain=0.4, drifted=0.3))
    chosen = {int(item.text.split()[-1]) for item in items if item.reason == "unknown"}
    assert len(chosen) == 6
    assert chosen <= set(range(30, 51))
    assert not [item for item in items if item.reason == "drifted"]
