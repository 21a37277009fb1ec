"""The labels that wait are followed as they come, and tell what reading all of them anew would."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from perennial.continual.records import Example, Split
from perennial.ops.ledger import Ledger
from perennial.ops.watching.unlearnt import UnlearntLabels, asked_at
from tests.component.databases import fresh_url

pytestmark = pytest.mark.component

T0 = datetime(2026, 6, 1, tzinfo=UTC)


def at(hours: float) -> datetime:
    return T0 + timedelta(hours=hours)


def row(number: int, label: str, hours: float, *, key: str | None = None) -> Example:
    asked = f"{int(at(number).timestamp() * 1000):012x}{number:020x}"
    return Example(
        text=f"text {number}", label=label, at=at(hours), key=key, prediction_id=asked if number % 2 else None
    )


def test_followed_labels_are_those_of_the_ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = list[int]()
    with Ledger.open(fresh_url("sqlite", tmp_path)) as ledger:
        ledger.register_model("intent", {})
        ledger.add_examples("intent", [row(n, "a", n) for n in range(4)], lambda _: Split.TRAIN)
        since = ledger.last_example_id("intent")
        followed = UnlearntLabels(ledger, "intent", since)
        examples = ledger.examples

        def noted(*args: object, **more: object) -> object:
            found = examples(*args, **more)  # type: ignore[arg-type]
            read.append(len(found))
            return found

        def check(*, reads: int) -> None:
            read.clear()
            monkeypatch.setattr(ledger, "examples", noted)
            followed.follow()
            monkeypatch.undo()
            assert sum(read) == reads
            rows = ledger.examples("intent", split=Split.TRAIN, since_id=since)
            assert len(followed) == len(rows)
            for moment in (at(0), at(5.5), at(11)):
                assert followed.asked_after(moment) == sum(asked_at(stored.example) > moment for stored in rows)
            for last in (0, since + 2, 10**6):
                assert followed.until(last) == sum(stored.id <= last for stored in rows)

        check(reads=0)
        ledger.add_examples("intent", [row(n, "a", n, key=f"k{n}") for n in range(4, 10)], lambda _: Split.TRAIN)
        check(reads=6)
        check(reads=0)
        ledger.add_examples("intent", [row(n, "a", n) for n in (10, 11)], lambda _: Split.TRAIN)
        ledger.add_examples("intent", [row(12, "a", 12)], lambda _: Split.HOLDOUT)
        check(reads=2)
        ledger.add_examples("intent", [row(5, "b", 20)], lambda _: Split.TRAIN)
        check(reads=1 + 8)
        ledger.erase_key("intent", "k6", actor="test")
        ledger.add_examples("intent", [row(13, "a", 13)], lambda _: Split.TRAIN)
        check(reads=1 + 8)
        ledger.erase_key("intent", "k7", actor="test")
        check(reads=7)
