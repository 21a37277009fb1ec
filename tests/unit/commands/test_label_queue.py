"""The labelling queue: filled once, worked off by labels, and what the labels say."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from perennial.continual.labelling import Shares
from perennial.continual.records import Route
from perennial.ops.commands import label_queue
from perennial.ops.commands.label_queue import LabelQueue
from perennial.ops.ledger import FeedbackRow, Ledger
from perennial.ops.settings import Settings
from perennial.ops.store.state import DISPUTED, Disputed
from perennial.ops.store.workspace import Workspace
from perennial.ops.traffic import TrafficLog
from perennial.ops.traffic.shown import shown_requests
from perennial.ops.traffic.writer import TrafficWriter
from tests.component.traffic_rows import columns
from tests.unit.learning.cards import text_card

START = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.fixture
def queue(tmp_path: Path) -> Any:
    """A queue over 200 requests: the first ten are unsure, the last ten look like nothing else."""
    workspace = Workspace(Settings(state=tmp_path / "state", repository=tmp_path / "repository", models={"intent": {}}))
    ledger = Ledger.open(workspace.settings.ledger_address)
    ledger.register_model("intent", {})
    rows = columns([float(n) for n in range(200)], dimension=4)
    rng = np.random.default_rng(0)
    embeddings = np.array([1.0, 0.0, 0.0, 0.0]) + 0.05 * rng.standard_normal((200, 4))
    embeddings[190:] = [0.0, 1.0, 0.0, 0.0]
    rows["embedding"] = (embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)).astype(np.float32)
    rows["margin"] = [0.01] * 10 + [0.9] * 190
    writer = TrafficWriter(workspace.traffic("intent"), "test", dimension=4)
    writer.append(rows)
    writer.close()
    yield LabelQueue(ledger, workspace, "intent")
    ledger.close()


def label(queue: LabelQueue, ids: list[str], name: str) -> None:
    rows = [FeedbackRow(prediction_id=id_, label=name, at=START + timedelta(days=1)) for id_ in ids]
    queue._ledger.add_feedback("intent", rows)


def test_queue_holds_unsure_unusual_and_random_requests(queue: LabelQueue) -> None:
    assert queue.open_items() == ()
    items = queue.refill(budget=30, shares=Shares(uniform=0.4, uncertain=0.3, drifted=0.3))
    assert len(items) == len({item.prediction_id for item in items}) == 30
    by_reason = {reason: [i for i in items if i.reason == reason] for reason in ("uncertain", "drifted", "uniform")}
    assert {len(found) for found in by_reason.values()} == {9, 12}
    assert {int(item.text.split()[1]) for item in by_reason["uncertain"]} <= set(range(10))
    assert {int(item.text.split()[1]) for item in by_reason["drifted"]} <= set(range(190, 200))
    assert {item.probability for item in by_reason["uniform"]} == {12 / 182}


def test_labelled_requests_leave_and_new_ones_are_others(queue: LabelQueue) -> None:
    items = queue.refill(budget=20)
    label(queue, [item.prediction_id for item in items[:5]], "transfer")
    left = queue.open_items()
    assert [item.prediction_id for item in left] == [item.prediction_id for item in items[5:]]
    more = queue.refill(budget=10)
    assert len(more) == 25
    assert not {item.prediction_id for item in items[:5]} & {item.prediction_id for item in more}


def test_accuracy_weighs_random_requests_for_all_that_were_not_chosen(queue: LabelQueue) -> None:
    """All answers said transfer; the unsure ones were wrong, all others right: 190 of 200."""
    items = queue.refill(budget=40, shares=Shares(uniform=0.5, uncertain=0.5, drifted=0.0))
    assert queue.accuracy() is None
    label(queue, [i.prediction_id for i in items if int(i.text.split()[1]) < 10], "refund")
    label(queue, [i.prediction_id for i in items if int(i.text.split()[1]) >= 10], "transfer")
    known = queue.accuracy()
    assert known is not None
    assert known.accuracy == pytest.approx(190 / 200)
    assert known.low < 190 / 200 <= known.high
    assert queue.waiting(limit=5).accuracy == known
    assert known.labels == 40


def test_a_look_at_the_queue_reads_no_more_requests_than_it_shows(
    queue: LabelQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert queue.waiting(limit=5).items == (), "a look chooses none"
    assert len(queue.waiting(limit=60, fill=None).items) == 50
    queue.refill(budget=100)
    asked: list[int] = []

    def shown(traffic: Any, ids: Sequence[str], task: Any) -> dict[str, Any]:
        asked.append(len(ids))
        gone = ids if len(asked) == 1 else []  # the log keeps what is newest
        return {name: row for name, row in shown_requests(traffic, ids, task).items() if name not in gone}

    monkeypatch.setattr(label_queue, "shown_requests", shown)
    assert len(queue.waiting(limit=5, fill=None).items) == 5
    assert asked == [50, 50], "none of the first ones is in the log any more, so that others are looked for"


def test_erased_requests_leave_the_queue(queue: LabelQueue) -> None:
    queue.refill(budget=10)
    assert len(queue.open_items()) == 10
    TrafficLog(queue._workspace.traffic("intent")).prune(START + timedelta(days=365))
    assert queue.open_items() == ()


def test_labels_that_the_answering_model_contradicts_are_doubted(queue: LabelQueue) -> None:
    from perennial.continual.learning.class_sums import ClassRows
    from perennial.continual.learning.fourier import FourierFeatures
    from perennial.continual.learning.kernel_lda import Discriminant, KernelLda
    from perennial.continual.learning.trained import write_head

    eye = np.eye(4, dtype=np.float32)
    head = KernelLda(FourierFeatures.make(dimension=4, features=200, gamma=0.5, seed=0))
    head.add(ClassRows(X=np.repeat(eye[:2], 10, axis=0), labels=["transfer"] * 10 + ["refund"] * 10))
    solved = head.solve(Discriminant(shrinkage=1e-2))
    folder = queue._workspace.bundle("intent", 1)
    write_head(folder, solved)
    text_card(labels=solved.labels).write(folder)
    table = TrafficLog(queue._workspace.traffic("intent")).read(columns=["prediction_id"])
    ids = table["prediction_id"].to_pylist()
    label(queue, ids[:20], "transfer")
    label(queue, ids[190:200], "refund")
    label(queue, [ids[25]], "refund")
    found = queue.doubts()
    assert [(row.prediction_id, row.given, row.suggested) for row in found] == [(ids[25], "refund", "transfer")]
    assert queue.doubts(rows=100) == []


def test_half_of_the_budget_goes_to_what_two_versions_under_comparison_disagree_on(queue: LabelQueue) -> None:
    ids = queue._traffic.read(columns=["prediction_id"])["prediction_id"].to_pylist()
    DISPUTED.keep(queue._ledger, "intent", Disputed(champion=1, challenger=2, ids=tuple(ids[40:60])))
    assert {item.reason for item in queue.refill(budget=8)} <= {"uniform", "uncertain", "drifted"}, (
        "nothing is compared"
    )
    route = Route(model="intent", epoch=1, champion=1, challenger=2, share=0.1, resident=(1, 2))
    queue._ledger.set_route(route, expected_epoch=0, actor="ann", reason="a test")
    before = {item.prediction_id for item in queue.open_items()}
    fresh = [item for item in queue.refill(budget=20) if item.prediction_id not in before]
    disputed = [item.prediction_id for item in fresh if item.reason == "disputed"]
    assert (len(fresh), len(disputed)) == (20, 10)
    assert set(disputed) <= set(ids[40:60])
    label(queue, disputed, "transfer")
    again = [item for item in queue.refill(budget=20) if item.reason == "disputed"]
    assert not {item.prediction_id for item in again} & set(disputed)
    assert queue.accuracy() is None, "labels of disputes alone say nothing of all traffic"
