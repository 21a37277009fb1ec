"""Which old held-out rows prove a version where there are more than it looks at."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from perennial.continual.records import Example, Split
from perennial.ops.ledger import Ledger, VersionRow, VersionState, version_card
from perennial.ops.making.rows import ModelRows
from perennial.ops.settings import LearningSettings, ModelSettings, Settings
from perennial.ops.store.workspace import Workspace
from tests.component.databases import fresh_url

AT = datetime(2026, 1, 1, tzinfo=UTC)
MOST, ROWS = 50, 400
Chosen = Callable[[list[str]], list[str]]


@pytest.fixture
def chosen(tmp_path: Path) -> Chosen:
    """The old rows that prove, of a ledger that was given these texts in this order."""

    def among(texts: list[str]) -> list[str]:
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        folder.mkdir()
        models = {"intent": ModelSettings(learning=LearningSettings(holdout_rows=MOST))}
        workspace = Workspace(Settings(state=folder, repository=folder / "r", models=models))
        with Ledger.open(fresh_url("sqlite", folder)) as ledger:
            ledger.register_model("intent", {})
            rows = [Example(text=text, label="a", at=AT) for text in texts]
            ledger.add_examples("intent", rows, lambda _: Split.HOLDOUT)
            version = VersionRow(
                model="intent",
                version=1,
                state=VersionState.CHAMPION,
                card=version_card(labels=("a",)),
                lineage={"last_example_id": ledger.last_example_id("intent")},
            )
            old = ModelRows(ledger, workspace, "intent").holdout_rows(version).old
        return [str(row.input) for row in old]

    return among


def test_a_row_more_takes_the_place_of_one_at_most_wherever_it_came(chosen: Chosen) -> None:
    texts = [f"row {number}" for number in range(ROWS)]
    before = chosen(texts)
    assert len(before) == MOST
    assert before == [text for text in texts if text in before], "in the order of the ledger"
    assert 0 < sum(text in before for text in texts[: ROWS // 2]) < MOST, "from everywhere"
    taken = 0
    for number in range(3 * ROWS // MOST):
        after = chosen([*texts[:number], f"more {number}", *texts[number:]])
        assert len(after) == MOST
        assert len(set(before) - set(after)) <= 1
        taken += f"more {number}" in after
    assert taken, "one of them is drawn"
