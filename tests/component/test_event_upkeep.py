"""What a running service does for the watch of headlines: a limit by chance, and an end for what is too old."""

from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from perennial.ops.app.event_upkeep import EventUpkeep
from perennial.ops.app.wiring import open_parts
from perennial.ops.parts import Parts
from perennial.ops.store.headlines import Headlines, Observed

pytestmark = pytest.mark.component
NOW, STEP = datetime.now(UTC), timedelta(minutes=13)


@pytest.fixture
def parts(tmp_path: Path) -> Iterator[Parts]:
    config = tmp_path / "perennial.toml"
    config.write_text('state = "state"\nrepository = "repository"\n[models.news]\ntask = "opinion"\n')
    opened = open_parts(config)
    yield opened
    opened.close()


def observed(text: str, at: datetime, number: int) -> Observed:
    return Observed(
        prediction_id=f"{number:032x}",
        at=at,
        source=f"wire {number % 3}",
        key="",
        text=text,
        label="neutral",
        scores={"neutral": 1.0},
    )


def test_a_limit_is_found_once_a_day(parts: Parts) -> None:
    rng, began = np.random.default_rng(1), NOW - timedelta(days=10)
    with closing(Headlines(parts.workspace.headlines("news"))) as headlines:
        usual = headlines.plan().events.limit
        headlines.note(
            [
                observed(" ".join("".join(rng.choice(list("abcdef"), 4)) for _ in range(5)), began + row * STEP, row)
                for row in range(1_000)
            ]
        )
        upkeep = EventUpkeep(parts, "news")
        upkeep.configure()
        assert upkeep.look_after().endswith(" of 1000 headlines")
        found = headlines.plan().events.limit
        assert 2.0 < found < 20.0
        assert found != usual
        assert upkeep.look_after() == "", "the next one is due tomorrow"


def test_old_headlines_go_where_no_limit_can_be_found_yet(parts: Parts) -> None:
    """Copies make no base, so there is nothing to calibrate by; they grow old all the same."""
    old = NOW - timedelta(days=parts.settings.traffic.retention_days + 5)
    with closing(Headlines(parts.workspace.headlines("news"))) as headlines:
        headlines.note([observed("the museum opens a new wing", old, row) for row in range(4_100)])
        assert EventUpkeep(parts, "news").look_after() == "60 old ones forgotten"
        assert len(headlines.items(last=5_000)) <= 1
        assert headlines.held("") == 4_040
