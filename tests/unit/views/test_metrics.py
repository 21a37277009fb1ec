"""What Prometheus is told of labels."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from perennial.continual.records import Origin
from perennial.ops.ledger import FeedbackRow, Ledger
from perennial.ops.views.metrics import prometheus_text

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def told(ledger: Ledger) -> list[str]:
    text = prometheus_text(ledger, ["intent"], restarts=0, parts={}, rows_lost={}, answered={})
    return [line for line in text.splitlines() if line.startswith("perennial_label_lag")]


def row(lag_s: float, number: int) -> FeedbackRow:
    made_ms = int((NOW.timestamp() - lag_s) * 1_000)
    name = f"{made_ms:012x}{number:020x}"
    return FeedbackRow(prediction_id=name, label="card", at=NOW, origin=Origin.FEEDBACK)


def test_lag_of_labels_is_from_the_answer_to_the_labels_arrival(tmp_path: Path) -> None:
    with Ledger.open(f"sqlite:///{tmp_path / 'ledger.db'}", clock=lambda: NOW) as ledger:
        ledger.register_model("intent", {})
        assert told(ledger) == []
        ledger.add_feedback("intent", [row(60.0, 0)])
        assert told(ledger) == [
            'perennial_label_lag_seconds{model="intent",quantile="0.5"} 60.0',
            'perennial_label_lag_seconds{model="intent",quantile="0.9"} 60.0',
        ]
        ledger.add_feedback("intent", [row(3_600.0 * number, number) for number in range(1, 11)])
        median, late = (float(line.rpartition(" ")[2]) for line in told(ledger))
        assert median == pytest.approx(timedelta(hours=5).total_seconds())
        assert late == pytest.approx(timedelta(hours=9).total_seconds())
        invented = FeedbackRow(prediction_id="invented", label="card", at=NOW, origin=Origin.FEEDBACK)
        ledger.add_feedback("intent", [invented])
        assert float(told(ledger)[0].rpartition(" ")[2]) == median
