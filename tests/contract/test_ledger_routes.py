"""Routes and numbers that a ledger gets back from bundles and the routers' file, and which states a route gives."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import pytest

from perennial.continual.errors import DataError
from perennial.continual.records import Route
from perennial.ops.ledger import Conflict, Ledger, VersionRow, VersionState, version_card
from tests.component.databases import BACKENDS, fresh_url

pytestmark = pytest.mark.component

ROUTE = Route(model="intent", epoch=7, champion=2, previous=1, resident=(1, 2))


@pytest.fixture(params=BACKENDS)
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ledger]:
    with Ledger.open(fresh_url(request.param, tmp_path)) as opened:
        for model in ("intent", "topic"):
            opened.register_model(model, {})
            for version in (1, 2, 3):
                opened.add_version(VersionRow(model=model, version=version, state=VersionState.PUBLISHED))
        yield opened


def states(ledger: Ledger, model: str = "intent") -> list[VersionState]:
    return [row.state for row in ledger.versions(model)]


def test_a_lost_route_comes_back_at_its_own_epoch_with_one_audit_entry(ledger: Ledger) -> None:
    ledger.restore_route(ROUTE, actor="ann", reason="rebuilt")
    ledger.restore_route(ROUTE, actor="ann", reason="rebuilt")
    assert ledger.route("intent") == ROUTE
    assert states(ledger) == [VersionState.RESIDENT, VersionState.CHAMPION, VersionState.PUBLISHED]
    assert states(ledger, "topic") == [VersionState.PUBLISHED] * 3
    (entry,) = ledger.audit_entries("intent")
    assert (entry.actor, entry.action, entry.detail["reason"], entry.detail["from"]) == (
        "ann",
        "route.set",
        "rebuilt",
        None,
    )
    assert entry.detail["to"]["epoch"] == 7


@pytest.mark.parametrize(("epoch", "taken"), [(6, False), (7, False), (8, True)])
def test_only_a_newer_route_takes_the_place_of_a_known_one(ledger: Ledger, epoch: int, taken: bool) -> None:
    ledger.restore_route(ROUTE, actor="ann", reason="rebuilt")
    other = replace(ROUTE, epoch=epoch, champion=1, previous=None, resident=(1,))
    if not taken:
        with pytest.raises(Conflict, match=f"is at epoch 7, not before {epoch}; it was not replaced"):
            ledger.restore_route(other, actor="ann", reason="older")
        assert ledger.route("intent") == ROUTE
        return
    ledger.restore_route(other, actor="ann", reason="newer")
    assert ledger.route("intent") == other
    assert states(ledger)[:2] == [VersionState.CHAMPION, VersionState.RESIDENT]
    assert ledger.audit_entries("intent")[-1].detail["from"]["epoch"] == 7


def test_numbers_of_bundles_that_exist_are_given_to_nobody(ledger: Ledger) -> None:
    ledger.pass_versions("intent", 3)
    ledger.pass_versions("intent", 1)
    assert ledger.next_version("intent") == 4
    ledger.pass_versions("intent", 5)
    ledger.pass_versions("intent", 5)
    assert (ledger.next_version("intent"), ledger.next_version("topic")) == (6, 4)


def test_a_route_of_one_model_leaves_the_states_of_another_alone(ledger: Ledger) -> None:
    ledger.set_route(Route(model="topic", epoch=1, champion=1, resident=(1,)), expected_epoch=0, actor="a", reason="r")
    first = Route(model="intent", epoch=1, champion=3, resident=(1, 3))
    ledger.set_route(first, expected_epoch=0, actor="a", reason="r")
    assert states(ledger) == [VersionState.RESIDENT, VersionState.PUBLISHED, VersionState.CHAMPION]
    assert states(ledger, "topic") == [VersionState.CHAMPION, VersionState.PUBLISHED, VersionState.PUBLISHED]
    ledger.set_version_state("intent", 1, VersionState.REMOVED)
    ledger.set_route(replace(first, epoch=2, champion=2, resident=(1, 2, 3)), expected_epoch=1, actor="a", reason="r")
    assert states(ledger) == [VersionState.REMOVED, VersionState.CHAMPION, VersionState.RESIDENT]


def test_an_epoch_that_does_not_follow_the_expected_one_is_refused(ledger: Ledger) -> None:
    for epoch in (1, 3):
        with pytest.raises(DataError, match=f"new epoch {epoch} must be 2, one after the expected"):
            ledger.set_route(replace(ROUTE, epoch=epoch), expected_epoch=1, actor="a", reason="r")
    assert ledger.route("intent") is None


def test_facts_of_any_mapping_or_sequence_are_kept(ledger: Ledger) -> None:
    facts = MappingProxyType({"accuracy": 0.5})
    ledger.set_version_state(
        "intent", 1, VersionState.PUBLISHED, metrics=facts, lineage=facts, card=version_card(labels=("a", "b"))
    )
    row = ledger.version("intent", 1)
    assert (row.metrics, row.lineage, row.labels) == ({"accuracy": 0.5}, {"accuracy": 0.5}, ("a", "b"))


def test_the_moment_of_publishing_is_noted_once(ledger: Ledger) -> None:
    first = ledger.set_version_state("intent", 1, VersionState.PUBLISHED).published_at
    assert first is not None
    assert ledger.set_version_state("intent", 1, VersionState.PUBLISHED).published_at == first
    ledger.add_version(VersionRow(model="intent", version=9, state=VersionState.EXPORTED))
    assert ledger.set_version_state("intent", 9, VersionState.FAILED).published_at is None
