"""A changed buffer setting takes effect, and the rows that a larger buffer may hold come back."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from perennial.continual.records import Example, Route, Split
from perennial.ops.ledger import Ledger, VersionRow
from perennial.ops.settings import LearningSettings, ModelSettings, Settings
from perennial.ops.store.replay_buffer import buffered_rows, open_buffer
from perennial.ops.store.workspace import Workspace

AT = datetime(2026, 3, 1, tzinfo=UTC)


def workspace(tmp_path: Path, **learning: Any) -> Workspace:
    models = {"intent": ModelSettings(learning=LearningSettings(**learning))}
    return Workspace(Settings(state=tmp_path / "state", repository=tmp_path / "repository", models=models))


def test_changed_budgets_and_kinds_are_followed(tmp_path: Path) -> None:
    small = workspace(tmp_path, replay_rows=5)
    with Ledger.open(small.settings.ledger_address) as ledger:
        ledger.register_model("intent", {})
        rows = [Example(text=f"text {n}", label="ab"[n % 2], at=AT) for n in range(40)]
        ledger.add_examples("intent", rows, lambda _: Split.TRAIN)
        buffer = open_buffer(ledger, small, "intent")
        for row in rows[:30]:
            buffer.offer(row)
        ledger.save_buffer("intent", buffer.state())
        assert open_buffer(ledger, small, "intent").state() == buffer.state()
        assert buffered_rows(ledger, small, "intent") == buffer.rows()

        ledger.add_version(VersionRow(model="intent", version=1))
        ledger.mark_learnt("intent", [row.id for row in ledger.examples("intent")][:30], 1)
        route = Route(model="intent", epoch=1, champion=1, resident=(1,))
        ledger.set_route(route, expected_epoch=0, actor="me", reason="test")
        larger = open_buffer(ledger, workspace(tmp_path, replay_rows=20), "intent")
        assert buffered_rows(ledger, workspace(tmp_path, replay_rows=20), "intent") == larger.rows()
        assert (len(larger), larger.capacity) == (20, 20)
        assert {row.text for row in larger.rows()} <= {row.text for row in rows[:30]}  # the last ten are not learnt
        smaller = open_buffer(ledger, workspace(tmp_path, replay_rows=3, replay_kind="reservoir"), "intent")
        assert (len(smaller), smaller.name) == (3, "reservoir")
        bounded = open_buffer(ledger, workspace(tmp_path, replay_rows=5, replay_bytes=200), "intent")
        assert (bounded.byte_budget, bounded.bytes <= 200, len(bounded)) == (200, True, 2)
