"""What a rollout can see is told when its cycle opens, and brings a canary where that is enough."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from perennial.continual.cycle import decode
from perennial.ops.store.state import ROLLOUT_POWER
from perennial.ops.traffic.segment import PARQUET, sealed_name
from tests.component.town import Town
from tests.component.town_loop import town_loop

pytestmark = pytest.mark.component


@pytest.mark.parametrize(
    ("cycle", "labels", "shares", "said"),
    [
        ({}, 800, (0.05, 0.25), "a canary at 5% and 25%: about 33 labels"),
        ({}, 80, (), "no canary: about 3 labels"),
        ({"canary": "off"}, 800, (), ""),
        ({"canary_shares": []}, 800, (), ""),
        ({"canary_shares": [0.4]}, 80, (0.4,), ""),
        ({"probation_s": 60.0}, 800, (), "longer than the probation"),
    ],
    ids=["enough", "few", "off", "none named", "named", "at once"],
)
def test_a_canary_comes_where_it_can_tell_something_and_as_the_settings_name_it(
    make_town: Callable[..., Town], cycle: dict[str, Any], labels: int, shares: tuple[float, ...], said: str
) -> None:
    town = make_town(cycle=cycle, now=datetime.now(UTC) - timedelta(hours=12))
    requests = town.ask(10_000, batch=500)
    town.label(requests[:labels])
    with town_loop(town) as loop:
        number = loop.runner.fire("a test", actor="operator")
    assert number is not None
    assert decode(town.ledger.cycle(number).payload).plan.canary_shares == shares
    told = ROLLOUT_POWER.read(town.ledger, "intent")
    assert told is not None
    assert (told.cycle, said in told.canary, bool(told.canary)) == (number, True, bool(said))
    assert told.canary in told.sentence


def test_a_traffic_log_that_cannot_be_read_brings_no_canary_and_stops_no_cycle(make_town: Callable[..., Town]) -> None:
    town = make_town(now=datetime.now(UTC) - timedelta(hours=12))
    town.label(town.ask(10_000, batch=500)[:800])
    now_us = int(datetime.now(UTC).timestamp() * 1e6)
    folder = town.workspace.traffic("intent") / PARQUET
    folder.mkdir(exist_ok=True)
    later = pa.table({"text": ["a"]}).replace_schema_metadata({b"perennial.format": b"99"})
    pq.write_table(later, folder / sealed_name(now_us - 1_000, now_us, "0", ".parquet"))
    with town_loop(town) as loop:
        number = loop.runner.fire("a test", actor="operator")
    assert number is not None
    assert decode(town.ledger.cycle(number).payload).plan.canary_shares == ()
    told = ROLLOUT_POWER.read(town.ledger, "intent")
    assert told is not None
    assert "no canary: the traffic log cannot be read" in told.canary
