"""What was right of a taste does not stay right: a ranking is proved on rows later than all that it was taught."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from perennial.continual.records import Example, Split
from perennial.continual.tasks.ranking import Impression, Query
from perennial.ops.ledger import Ledger, VersionRow, VersionState, version_card
from perennial.ops.making.rows import ModelRows
from perennial.ops.settings import Settings
from perennial.ops.store.workspace import Workspace
from tests.component.databases import fresh_url

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def liked(minute: int) -> Impression:
    at = NOON + timedelta(minutes=minute)
    return Impression(input=Query(user=f"u{minute % 7}", at=at), target={"tea": 1.0}, at=at, key=f"u{minute % 7}")


def minutes(rows: tuple[Impression, ...]) -> list[int]:
    return [int((row.at - NOON).total_seconds() // 60) for row in rows]


@pytest.fixture
def shop(tmp_path: Path) -> tuple[Ledger, ModelRows]:
    """Minutes 0 to 99 came out of order; each tenth one is held out by its hash."""
    workspace = Workspace(Settings(state=tmp_path, repository=tmp_path / "r", models={"shop": {"task": "ranking"}}))
    ledger = Ledger.open(fresh_url("sqlite", tmp_path))
    ledger.register_model("shop", {"task": "ranking"})
    rows = [liked(minute) for minute in [*range(50, 100), *range(50)]]
    held_out = {row.input for row in rows if row.at.minute % 10 == 5}
    ledger.add_examples("shop", rows, lambda asked: Split.HOLDOUT if asked in held_out else Split.TRAIN)
    return ledger, ModelRows(ledger, workspace, "shop")


def test_the_newest_rows_prove_a_training_that_does_not_know_them(shop: tuple[Ledger, ModelRows]) -> None:
    ledger, rows = shop
    first = rows.training_rows(None)
    assert sorted(minutes(first.examples))[-1] == 89, "a tenth of 90 rows is left to the next training"
    taught = [stored.id for stored in first.fresh]
    assert minutes(rows.holdout_rows(None, taught).fresh) == [*range(90, 100)]
    ledger.add_version(
        VersionRow(
            model="shop",
            version=1,
            state=VersionState.CHAMPION,
            card=version_card(labels=()),
            lineage={"last_example_id": first.last_example_id},
        )
    )
    ledger.mark_learnt("shop", first.learnt, 1)
    champion = ledger.version("shop", 1)
    ledger.add_examples("shop", [liked(minute) for minute in range(100, 131)], lambda _: Split.TRAIN)
    second = rows.training_rows(champion)
    assert sorted(minutes(second.examples)) == [*(m for m in range(90, 127) if m != 95)]
    proof = rows.holdout_rows(champion, [stored.id for stored in second.fresh])
    assert minutes(proof.fresh) == [127, 128, 129, 130]
    assert len(proof.old) == 10, "what was held out of the champion's time is still told"
    ledger.close()


def test_rows_of_labels_are_taught_to_the_last(tmp_path: Path) -> None:
    workspace = Workspace(Settings(state=tmp_path, repository=tmp_path / "r", models={"intent": {}}))
    with Ledger.open(fresh_url("sqlite", tmp_path)) as ledger:
        ledger.register_model("intent", {})
        examples = [Example(text=f"my card {n}", label="ab"[n % 2], at=NOON + timedelta(days=n)) for n in range(40)]
        ledger.add_examples("intent", examples, lambda _: Split.TRAIN)
        rows = ModelRows(ledger, workspace, "intent")
        taught = rows.training_rows(None)
        assert len(taught.fresh) == 40
        assert rows.holdout_rows(None, [stored.id for stored in taught.fresh]).all == ()
