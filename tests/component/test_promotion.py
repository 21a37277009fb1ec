"""A promotion that is given up half-way leaves nothing behind. No server is needed: the pass itself is what breaks."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from perennial.continual.errors import DependencyUnreachable, PublishFailed
from perennial.continual.records import Route
from perennial.ops.commands.promotion import promote_version, roll_back_version
from perennial.ops.ledger import Ledger
from perennial.ops.parts import Parts
from perennial.ops.serving.reconciler import Reconciler
from perennial.ops.settings import Settings
from perennial.ops.store.workspace import Workspace
from tests.component.triton_fixtures import MODEL, Place

pytestmark = pytest.mark.component


@pytest.fixture
def parts(tmp_path: Path) -> Iterator[Parts]:
    place = Place(tmp_path)
    for version in (1, 2):
        place.publish(version)
    settings = Settings(state=place.root / "var", repository=place.repository.root, models={MODEL: {}})
    workspace, ledger = Workspace(settings), Ledger.open(settings.ledger_address)
    ledger.register_model(MODEL, {})
    first = Route(model=MODEL, epoch=1, champion=1, resident=(1,))
    ledger.set_route(first, expected_epoch=0, actor="test", reason="first")
    parts = Parts(
        settings=settings,
        workspace=workspace,
        ledger=ledger,
        repository=place.repository,
        controls=(),
        reconciler=Reconciler(ledger, workspace, place.repository, ()),
    )
    yield parts
    parts.close()


def test_a_version_is_awake_before_the_routers_are_told_of_it(parts, monkeypatch):
    parts.ledger.set_route(
        Route(model=MODEL, epoch=2, champion=1, previous=2, resident=(1, 2)), expected_epoch=1, actor="test", reason="2"
    )
    parts.workspace.write_route(parts.ledger.route(MODEL))
    woken = []
    monkeypatch.setattr(
        parts.reconciler,
        "wake",
        lambda model, version: woken.append((version, parts.workspace.read_route(model).champion)),
    )
    champion = roll_back_version(parts, MODEL, to=None, actor="test", reason="test").champion
    assert (champion, woken) == (2, [(2, 1)])
    champion = promote_version(parts, MODEL, 1, actor="test", reason="test").champion
    assert (champion, woken) == (1, [(2, 1), (1, 2)])
    promote_version(parts, MODEL, 1, actor="test", reason="it is champion already")
    assert len(woken) == 2


def test_no_route_leads_to_a_version_that_does_not_wake(parts, monkeypatch):
    both = Route(model=MODEL, epoch=2, champion=1, previous=2, resident=(1, 2))
    parts.ledger.set_route(both, expected_epoch=1, actor="test", reason="2")
    parts.workspace.write_route(both)

    def fail(model: str, version: int) -> None:
        raise PublishFailed(f"version {version} of {model} cannot answer: its weights are altered")

    monkeypatch.setattr(parts.reconciler, "wake", fail)
    for change in (
        lambda: roll_back_version(parts, MODEL, to=None, actor="test", reason="test"),
        lambda: promote_version(parts, MODEL, 2, actor="test", reason="test"),
    ):
        with pytest.raises(PublishFailed, match="its weights are altered"):
            change()
        assert parts.ledger.route(MODEL) == parts.workspace.read_route(MODEL) == both


@pytest.mark.parametrize("error", [KeyboardInterrupt(), DependencyUnreachable("Triton is away")])
def test_a_version_whose_load_is_interrupted_does_not_stay_resident(parts, monkeypatch, error):
    seen = []

    def fail(model: str, *, patience_s: float = 0.0) -> list[object]:
        seen.append((parts.ledger.route(model).resident, patience_s > 0))
        raise error

    monkeypatch.setattr(parts.reconciler, "reconcile", fail)
    with pytest.raises(type(error)):
        promote_version(parts, MODEL, 2, actor="test", reason="test")
    assert (parts.ledger.route(MODEL).champion, parts.ledger.route(MODEL).resident) == (1, (1,))
    assert seen[0] == ((1, 2), True)
    note = parts.ledger.audit_entries(MODEL)[-1].detail["reason"]
    assert note.startswith("version 2 could not be loaded everywhere: ")
    assert note.endswith(str(error) or "KeyboardInterrupt")
