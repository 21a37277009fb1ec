"""Signals of users, from the entrance to the ledger and to what the next list is made of."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from perennial.continual.errors import DataError
from perennial.continual.records import Origin
from perennial.ops.ledger import Ledger
from perennial.ops.settings import LearningSettings, ModelSettings, Settings
from perennial.ops.store.feedback import (
    AdmittedSignal,
    GivenSignal,
    add_labels,
    add_signals,
    admit_signal,
    check_takes,
    joiner_of,
)
from perennial.ops.store.traffic_of import traffic_of
from perennial.ops.store.user_events import UserEvents
from perennial.ops.store.workspace import Workspace
from perennial.ops.traffic.writer import TrafficWriter
from perennial.ops.watching.collector import Collected, collect
from tests.component.databases import BACKENDS, fresh_url
from tests.component.traffic_rows import START, at, columns, row_id

pytestmark = pytest.mark.component
LATER = START + timedelta(hours=1)


@pytest.fixture
def shop(tmp_path: Path) -> Workspace:
    learning = LearningSettings(holdout_share=0.25)
    return Workspace(Settings(state=tmp_path, models={"shop": ModelSettings(task="ranking", learning=learning)}))


@pytest.fixture(params=BACKENDS)
def ledger(request: pytest.FixtureRequest, tmp_path: Path, shop: Workspace) -> Iterator[Ledger]:
    with Ledger.open(fresh_url(request.param, tmp_path), clock=lambda: LATER) as opened:
        opened.register_model("shop", shop.settings.models["shop"].model_dump(mode="json"))
        yield opened


def answered(shop: Workspace, users: list[str]) -> list[str]:
    """Lists that were answered a second apart; their prediction ids."""
    seconds = list(range(len(users)))
    cells: dict[str, Any] = columns(seconds)
    names = ("prediction_id", "at", "version", "arm", "latency_ms", "redacted")
    rows = {name: cells[name] for name in names} | {
        "key": users,
        "user": users,
        "asked_at": [at(second).isoformat() for second in seconds],
        "segment": ["all"] * len(users),
        "context": [""] * len(users),
        "ask": ["{}"] * len(users),
        "prediction": ['["tea", "cup"]'] * len(users),
        "propensities": ["[1.0, 1.0]"] * len(users),
    }
    writer = TrafficWriter(shop.traffic("shop"), "test", task="ranking")
    writer.append(rows)
    writer.close()
    return [row_id(second, second) for second in seconds]


def signal(item: str, **fields: Any) -> AdmittedSignal:
    return admit_signal(GivenSignal(item=item, **fields), now=LATER)


def liked(shop: Workspace, user: str) -> dict[str, float]:
    with UserEvents(shop.user_events("shop")) as users:
        return {event.item: event.liked for event in users.profile(user).events}


def passed(ledger: Ledger, shop: Workspace) -> Collected:
    joiner = joiner_of(ledger, shop, "shop")
    return collect(ledger, traffic_of(shop, "shop"), "shop", holdout_share=0.25, now=LATER, joiner=joiner)


def test_a_signal_counts_for_the_user_at_once_and_becomes_an_impression(ledger: Ledger, shop: Workspace) -> None:
    ids = answered(shop, ["ann", "bob"])
    first = [signal("tea", prediction_id=ids[0]), signal("cup", prediction_id=ids[1], signal="dwell", value=30)]
    assert add_signals(ledger, shop, "shop", first)["new"] == 2
    assert (liked(shop, "ann"), liked(shop, "bob")) == ({"tea": 1.0}, {"cup": 0.5})
    assert passed(ledger, shop) == Collected(joined=2)
    assert add_signals(ledger, shop, "shop", [signal("cup", prediction_id=ids[0], signal="skip")])["corrected"] == 1
    assert add_signals(ledger, shop, "shop", [signal("cup", prediction_id=ids[0], signal="skip")])["corrected"] == 0
    passed(ledger, shop)
    rows = {stored.example.key: stored.example for stored in ledger.examples("shop")}
    assert rows["ann"].target == {"tea": 1.0, "cup": 0.0}
    assert (rows["ann"].input.at, rows["ann"].prediction_id, rows["ann"].origin) == (at(0), ids[0], Origin.FEEDBACK)


def test_a_user_is_known_once_the_request_is_in_the_log(ledger: Ledger, shop: Workspace) -> None:
    waiting = signal("tea", prediction_id=row_id(0, 0))
    assert add_signals(ledger, shop, "shop", [waiting])["new"] == 1
    assert passed(ledger, shop) == Collected(waiting=1)
    answered(shop, ["ann"])
    assert passed(ledger, shop) == Collected(joined=1)
    assert liked(shop, "ann") == {"tea": 1.0}


def test_a_user_may_tell_without_having_asked(ledger: Ledger, shop: Workspace) -> None:
    rated = [signal("tea", user="ann", signal="rating", value=5, at=at(9)), signal("cup", user="ann", at=at(9))]
    assert add_signals(ledger, shop, "shop", rated)["new"] == 1, "one time of one user is one impression"
    (stored,) = ledger.examples("shop")
    assert (stored.example.input.at, stored.example.target) == (at(9), {"cup": 1.0, "tea": 1.0})
    assert liked(shop, "ann") == {"cup": 1.0, "tea": 1.0}


def test_what_comes_of_an_erased_user_from_before_is_not_remembered(ledger: Ledger, shop: Workspace) -> None:
    ids = answered(shop, ["ann", "bob"])
    ledger.erase_key("shop", "ann", prediction_ids=[ids[0]], erased_at=at(60))
    late = [
        signal("tea", prediction_id=ids[0]),
        signal("tea", user="ann", at=at(5)),
        signal("tea", prediction_id=ids[1]),
    ]
    counts = add_signals(ledger, shop, "shop", late)
    assert (counts["erased"], counts["new"]) == (2, 1)
    assert (liked(shop, "ann"), liked(shop, "bob")) == ({}, {"tea": 1.0})
    add_signals(ledger, shop, "shop", [signal("cup", user="ann")])
    assert liked(shop, "ann") == {"cup": 1.0}, "whoever comes back is known from then on"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "prediction_id or user is needed"),
        ({"user": "ann", "item": " "}, "item is empty"),
        ({"user": "ann", "signal": "bought"}, "use one of click, rating, skip, dwell"),
        ({"user": "ann", "signal": 5}, "signal is int"),
        ({"user": "ann", "value": True}, "give a number"),
        ({"user": "ann", "signal": "rating", "value": 9}, "it must lie in 0 to 5"),
        ({"user": "ann", "signal": "dwell"}, "a dwell has the value None"),
        ({"user": "ann", "signal": "dwell", "value": float("nan")}, "a dwell has the value nan"),
        ({"prediction_id": "x"}, "is not of the form of an id"),
    ],
)
def test_a_signal_that_breaks_its_rule_says_why(fields: dict[str, Any], message: str) -> None:
    given = replace(GivenSignal(item="tea"), **fields)
    with pytest.raises(DataError, match=message):
        admit_signal(given, now=LATER)


def test_labels_and_signals_go_to_models_of_their_task(ledger: Ledger) -> None:
    ledger.register_model("intent", {})
    check_takes(ledger, "shop", "ranking")
    with pytest.raises(DataError, match=r"of task 'text_classification': it takes labels .*, not signals"):
        check_takes(ledger, "intent", "ranking")
    with pytest.raises(DataError, match=r"of task 'ranking': it takes signals .*, not labels"):
        add_labels(ledger, "shop", [])


def test_strange_signals_are_kept_once_whatever_their_order(ledger: Ledger, shop: Workspace) -> None:
    """Fifty of the same, items in emoji and items that no catalogue has, each before its request is in the log."""
    given = [
        *[signal("🎬 film", prediction_id=row_id(0, 0)) for _ in range(50)],
        signal("no such item", prediction_id=row_id(0, 0), signal="skip"),
        signal("no such item", prediction_id=row_id(0, 0), signal="dwell", value=15),
        signal("tea", prediction_id=row_id(1, 1), signal="skip"),
    ]
    assert add_signals(ledger, shop, "shop", given)["new"] == 2
    add_signals(ledger, shop, "shop", given[::-1])
    assert passed(ledger, shop) == Collected(waiting=2)
    answered(shop, ["ann", "bob"])
    assert passed(ledger, shop) == Collected(joined=2)
    add_signals(ledger, shop, "shop", given[::-1])
    passed(ledger, shop)
    rows = {stored.example.key: stored.example.target for stored in ledger.examples("shop")}
    assert rows == {"ann": {"🎬 film": 1.0, "no such item": 0.25}, "bob": {"tea": 0.0}}
    assert liked(shop, "ann") == {"🎬 film": 1.0, "no such item": 0.25}


def test_a_clock_that_runs_ahead_moves_no_signal_into_the_future(ledger: Ledger, shop: Workspace) -> None:
    ids = answered(shop, ["ann"])
    with pytest.raises(DataError, match="in the future"):
        signal("tea", prediction_id=ids[0], at=(LATER + timedelta(days=400)).isoformat())
    ahead = signal("tea", prediction_id=ids[0], at=(LATER + timedelta(minutes=4)).isoformat())
    add_signals(ledger, shop, "shop", [ahead])
    with UserEvents(shop.user_events("shop")) as users:
        assert [event.at for event in users.profile("ann").events] == [LATER]
