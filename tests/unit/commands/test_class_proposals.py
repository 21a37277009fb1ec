"""Requests of no class become proposals, and an accepted one becomes labels."""

import json
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from typer.testing import CliRunner

from perennial.continual.errors import ConfigurationError, DataError, NotFound
from perennial.continual.labelling import Shares
from perennial.continual.records import Route
from perennial.ops.api.app import create_api
from perennial.ops.api.origin import REQUEST_HEADER
from perennial.ops.cli.main import app
from perennial.ops.commands.class_proposals import ClassProposals
from perennial.ops.commands.label_queue import LabelQueue
from perennial.ops.ledger import FeedbackRow, Ledger, VersionRow, VersionState, version_card
from perennial.ops.safety.tokens import hashed
from perennial.ops.settings import ApiSettings, Settings
from perennial.ops.store.event_feed import EventFeed
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
    for version, encoder in ((1, "sha256:a"), (2, "sha256:b"), (3, "sha256:a")):
        card = version_card(labels=("transfer",), encoder_fingerprint=encoder)
        ledger.add_version(VersionRow(model="intent", version=version, state=VersionState.PUBLISHED, card=card))
    route = Route(model="intent", epoch=1, champion=3, previous=1, resident=(1, 3))
    ledger.set_route(route, expected_epoch=0, actor="test", reason="first")
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


def log(
    world: tuple[Ledger, Workspace],
    seconds: list[float],
    *,
    text: str,
    axis: int,
    dimension: int = 16,
    version: int = 3,
) -> None:
    """More requests of no class, alike in text and embedding."""
    rows = columns(seconds, first=int(seconds[0]), dimension=dimension, version=version)
    points = np.eye(dimension)[axis] + 0.05 * np.random.default_rng(axis).standard_normal((len(seconds), dimension))
    rows["embedding"] = (points / np.linalg.norm(points, axis=1, keepdims=True)).astype(np.float32)
    rows["text"] = [f"{text} {int(second)}" for second in seconds]
    rows["known"] = [False] * len(seconds)
    writer = TrafficWriter(world[1].traffic("intent"), f"test-{int(seconds[0])}", dimension=dimension)
    writer.append(rows)
    writer.close()


@pytest.fixture
def proposals(world: tuple[Ledger, Workspace]) -> ClassProposals:
    return ClassProposals(*world, "intent")


def ids_of(world: tuple[Ledger, Workspace]) -> list[str]:
    ids: list[str] = TrafficLog(world[1].traffic("intent")).read(columns=["prediction_id"])["prediction_id"].to_pylist()
    return ids


def test_texts_alike_of_no_class_are_a_proposal_each(proposals: ClassProposals) -> None:
    found = proposals.look()
    assert (found.requests, found.of_no_class, found.undecided, found.ungrouped) == (51, 21, 0, 0)
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


def test_a_number_means_the_same_requests_for_good(proposals: ClassProposals, world: tuple[Ledger, Workspace]) -> None:
    """Two operators look, the first gives its number only then."""
    ids = ids_of(world)
    assert [p.number for p in proposals.look().proposals] == [1, 2]
    assert [p.number for p in proposals.look().proposals] == [1, 2], "the same requests"
    log(world, [60.0, 61.0, 62.0], text="flights to town", axis=2)
    seen = proposals.look(dry_run=True).proposals
    assert [(p.number, p.rows) for p in seen] == [(1, 12), (None, 11)]
    assert [(p.number, p.rows) for p in proposals.look().proposals] == [(1, 12), (3, 11)]
    log(world, [70.0 + n for n in range(12)], text="gold bars", axis=3)
    assert {p.number for p in proposals.look().proposals} == {1, 3, 4}
    assert proposals.accept(2, "trip", now=NOW).labelled == 8
    assert world[0].feedback_labels("intent", ids_of(world)) == {ids[n]: "trip" for n in TRIPS}
    assert proposals.accept(3, "trip", now=NOW).labelled == 3
    with pytest.raises(NotFound, match="proposal 2 of intent"):
        proposals.accept(2, "gold", now=NOW)
    log(world, [90.0 + n for n in range(5)], text="flights to town", axis=2)
    assert {p.number for p in proposals.look().proposals} == {1, 4, 5}, "2 and 3 are given to no others"


def test_requests_of_other_encoders_are_in_no_group_and_keep_nobody_from_one(
    proposals: ClassProposals, world: tuple[Ledger, Workspace]
) -> None:
    log(world, [60.0 + n for n in range(12)], text="gold bars", axis=3, version=2)  # of the same size
    log(world, [80.0 + n for n in range(4)], text="silver bars", axis=3, dimension=8, version=2)
    log(world, [90.0], text="a mortgage for house", axis=1)
    found = proposals.look()
    assert (found.requests, found.of_no_class, found.ungrouped) == (68, 38, 16)
    assert [(p.rows, set(p.name.split("_")) <= {"mortgage", "house"}) for p in found.proposals] == [
        (13, True),
        (8, False),
    ]
    assert not any("bars" in text for p in found.proposals for text in p.texts)


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


def test_the_same_over_http_needs_a_labeller(world: tuple[Ledger, Workspace], proposals: ClassProposals) -> None:
    ledger, workspace = world

    class Control:
        def class_proposals(self, model: str) -> ClassProposals:
            return ClassProposals(ledger, workspace, model)

    settings = ApiSettings(tokens={hashed("look"): "viewer", hashed("work"): "labeller"})
    api = create_api(ledger, Control(), EventFeed(), settings)  # type: ignore[arg-type]
    url, work = "/v1/models/intent/proposals", {"Authorization": "Bearer work", REQUEST_HEADER: "1"}
    client = TestClient(api, base_url="http://localhost", headers=work)
    refused = client.get(url, headers={"Authorization": "Bearer look"})
    assert refused.status_code == 403
    assert [group["number"] for group in client.get(url).json()["proposals"]] == [None, None]
    found = client.post(url).json()
    assert found == json.loads(json.dumps(asdict(proposals.look()))), "two looks give the same numbers"
    assert [group["number"] for group in found["proposals"]] == [1, 2]
    tried = client.post(f"{url}/1", json={"label": "mortgage", "dry_run": True}).json()
    assert client.post(f"{url}/1", json={"label": "mortgage"}).json() == tried | {"label": "mortgage", "labelled": 12}
    again = client.post(f"{url}/1", json={"label": "mortgage"})
    assert again.status_code == 404
    assert "proposals are 2" in again.text
    assert client.post(f"{url}/2", json={"label": "\x00"}).status_code == 422
    assert client.get("/v1/models/other/proposals").status_code == 404
