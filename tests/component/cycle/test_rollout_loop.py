"""Rollouts by the real loop on a real Triton: live requests decide on a version, and none of them fails."""

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from perennial.continual import cycle as cy
from perennial.continual.cycle import decode, encode
from perennial.continual.errors import PerennialError
from perennial.continual.records import Arm, Route
from perennial.continual.route import promoted, rolled_back
from perennial.ops.app.model_loop import ModelLoop
from perennial.ops.cycle import steps
from perennial.ops.ledger import FeedbackRow, Fence, Ledger, VersionRow, VersionState, version_card
from perennial.ops.parts import Parts
from perennial.ops.serving.client import PerennialClient
from perennial.ops.serving.control import TritonControl
from perennial.ops.serving.reconciler import Reconciler
from perennial.ops.serving.server.server import TritonServer
from perennial.ops.settings import Settings
from perennial.ops.store.event_feed import EventFeed
from perennial.ops.store.route_changes import change_route
from perennial.ops.store.workspace import Workspace
from perennial.ops.traffic import TrafficLog
from tests.component.triton_fixtures import ENGINE, LABELS, MODEL, Place, trips_for

pytestmark = [pytest.mark.component, pytest.mark.paired]
_CYCLE = {
    "probation_s": 280.0,
    "canary_step_s": 280.0,
    "canary_limit_s": 300.0,
    "margin_points": 10.0,
    "latency_ratio": 1_000.0,  # on a busy machine any answer may be a slow one
    "disk_versions": 3,
    "step_patience_s": 60.0,
}
_TRUTHS = {"card lost": LABELS[0], "money transfer": LABELS[1], "hello": LABELS[2]}


class House:
    """One model on one Triton, its loop, and a client that never stops asking and labelling."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.server = TritonServer(place.spec())
        settings = Settings(
            state=place.root / "var", repository=place.repository.root, models={MODEL: {"cycle": _CYCLE}}
        )
        self.workspace = Workspace(settings)
        self.ledger = Ledger.open(settings.ledger_address)
        self.ledger.register_model(MODEL, {})
        self.ledger.add_version(
            VersionRow(model=MODEL, version=1, state=VersionState.CHAMPION, card=version_card(labels=LABELS))
        )
        first = Route(model=MODEL, epoch=1, champion=1, resident=(1,))
        self.ledger.set_route(first, expected_epoch=0, actor="test", reason="first")
        self.control = TritonControl(self.server.spec.url, secret=self.server.kept_secret, timeout_s=4.0)
        reconciler = Reconciler(self.ledger, self.workspace, place.repository, (self.control,))
        fence = Fence(name="loop", epoch=self.ledger.acquire_lease("loop", "test"))
        self.feed = EventFeed()
        parts = Parts(
            settings=settings,
            workspace=self.workspace,
            ledger=self.ledger,
            repository=place.repository,
            controls=(self.control,),
            reconciler=reconciler,
        )
        self.loop = ModelLoop(parts, MODEL, self.feed, self.control.infer_engine, lambda: fence)
        self.failed: list[str] = []
        self.versions: list[int] = []
        self._stop = threading.Event()
        self._client = threading.Thread(target=self._ask_and_label)

    def start(self) -> None:
        self.server.start()
        self._client.start()
        self.loop.start()

    def stop(self) -> None:
        self._stop.set()
        self._client.join()
        self.loop.stop()
        self.server.stop()
        self.control.close()
        self.ledger.close()

    def _ask_and_label(self) -> None:
        with PerennialClient(self.server.spec.url, MODEL, timeout_s=60.0) as client:
            while not self._stop.is_set():
                rows = []
                for text, label in _TRUTHS.items():
                    try:
                        answer = client.predict([text])[0]
                    except PerennialError as exc:
                        self.failed.append(str(exc))
                        continue
                    self.versions.append(answer.version)
                    rows.append(FeedbackRow(prediction_id=answer.prediction_id, label=label, at=_now()))
                    time.sleep(0.01)
                if rows:
                    self.ledger.add_feedback(MODEL, rows)

    @property
    def route(self) -> Route:
        route = self.ledger.route(MODEL)
        assert route is not None
        return route

    def rollout(self, *, canary: bool = False, **bundle: Any) -> int:
        """Open a cycle whose challenger is staged already, at its publishing; returns the challenger."""
        version = self.ledger.next_version(MODEL)
        self.place.stage(version, **bundle)
        plan = cy.CyclePlan(canary_shares=(0.5,) if canary else ())
        champion = self.route.champion
        cycle = cy.new_cycle(model=MODEL, champion=champion, plan=plan)
        for event in (
            cy.TriggerFired(reason="test", challenger=version),
            cy.ChallengerTrained(),
            cy.ChallengerExported(),
            cy.GateAccepted(),
        ):
            cycle, _ = cy.handle(cycle, event)
        row = VersionRow(
            model=MODEL, version=version, parent=champion, card=version_card(labels=LABELS), state=VersionState.EXPORTED
        )
        self.ledger.add_version(row)
        self.ledger.open_cycle(MODEL, "test", encode(cycle), state=cycle.state.value)
        return version

    def state(self) -> str:
        row = self.ledger.active_cycle(MODEL)
        return "none" if row is None else row.state

    def until(self, state: str, within_s: float = 270.0) -> None:
        end = time.monotonic() + within_s
        while self.state() != state:
            assert time.monotonic() < end, f"{self.state()} and not {state} after {within_s} s: {self.last()}"
            time.sleep(0.05)

    def last(self) -> cy.Cycle:
        return decode(self.ledger.cycles(MODEL, limit=1)[0].payload)

    def command(self, kind: str) -> str:
        number = self.ledger.request_command(MODEL, kind, {}, "ada")
        end = time.monotonic() + 120
        while (outcome := self.ledger.command(number).outcome) is None:
            assert time.monotonic() < end
            time.sleep(0.05)
        return outcome


def _now() -> Any:
    from datetime import UTC, datetime

    return datetime.now(UTC)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    place = Place(tmp_path_factory.mktemp("house"))
    place.install((1,), router_instances=1, champion_limit_s=4.0)
    house = House(place)
    house.start()
    try:
        yield house
    finally:
        house.stop()


def _version_state(house: House, version: int) -> str:
    return house.ledger.version(MODEL, version).state.value


def test_a_new_champion_that_fails_is_rolled_back_and_no_request_fails(house: House) -> None:
    """It raises an error at every third text; those are answered by the version before it."""
    version = house.rollout(fails=True)
    house.until("probation")
    assert house.route.champion == version
    house.until("none")
    cycle = house.last()
    assert cycle.state is cy.CycleState.ROLLED_BACK
    assert "requests failed (limit 1.0%)" in cycle.note
    assert (house.route.champion, _version_state(house, 1)) == (1, "champion")
    assert _version_state(house, version) == "retired"
    assert house.failed == []
    assert version in house.versions


def test_a_new_champion_that_hangs_is_rolled_back_and_every_request_is_answered(house: House) -> None:
    """It counts for seconds at every third text; the version before it answers that one and what comes meanwhile."""
    version = house.rollout(hang=trips_for(8.0))
    house.until("probation")
    house.until("none")
    cycle = house.last()
    assert (cycle.state, house.route.champion) == (cy.CycleState.ROLLED_BACK, 1)
    assert "requests failed (limit 1.0%)" in cycle.note
    assert _version_state(house, version) == "retired"
    assert house.failed == []
    rows = TrafficLog(house.place.traffic).read(last=2_000, columns=["text", "arm"]).to_pylist()
    assert "money transfer" in {row["text"] for row in rows if row["arm"] == Arm.FALLBACK}


def test_a_new_champion_that_is_worse_is_rolled_back(house: House) -> None:
    version = house.rollout(shift=1)
    house.until("probation")
    house.until("none")
    cycle = house.last()
    assert (cycle.state, cycle.challenger) == (cy.CycleState.ROLLED_BACK, version)
    assert cycle.note.startswith("worse: -")
    assert house.route.champion == 1
    assert house.failed == []


def test_a_challenger_that_is_worse_is_aborted_in_its_canary_even_while_paused(house: House) -> None:
    assert house.command("pause") == "done"
    version = house.rollout(canary=True, shift=1)
    time.sleep(0.6)
    assert house.state() == "publishing"
    assert house.command("resume") == "done"
    house.until("canary")
    assert house.command("pause") == "done"
    house.until("none")
    assert house.command("resume") == "done"
    assert (house.last().state, house.route.champion, house.route.challenger) == (cy.CycleState.REFUSED, 1, None)
    assert _version_state(house, version) == "refused"
    assert house.failed == []


def test_a_rollback_beside_a_canary_ends_it_and_is_not_undone(house: House) -> None:
    """Versions 1 and the newest healthy one take turns; the cycle's own idea of the champion is out of date then."""
    healthy = house.rollout()
    house.until("probation")
    _set_probation(house, 0.0)
    house.until("none")
    _set_probation(house, _CYCLE["probation_s"])
    assert (house.last().state, house.route.champion) == (cy.CycleState.PROMOTED, healthy)
    challenger = house.rollout(canary=True)
    house.until("canary")
    change_route(house.ledger, house.workspace, MODEL, rolled_back(to=1), actor="ada", reason="a hunch")
    house.until("none")
    assert house.last().state is cy.CycleState.ABORTED
    assert f"took the place of version {healthy}" in house.last().note
    assert (house.route.champion, house.route.challenger) == (1, None)
    assert _version_state(house, challenger) == "failed"
    on_disk = house.place.repository.versions(ENGINE)
    assert len(on_disk) <= _CYCLE["disk_versions"] + 1, "the last promotion had left three, then one more was published"
    assert set(house.route.resident) <= set(on_disk)


def test_a_challenger_made_champion_by_hand_goes_through_its_probation(house: House) -> None:
    challenger = house.rollout(canary=True)
    house.until("canary")
    change = promoted(challenger, resident=2)
    change_route(house.ledger, house.workspace, MODEL, change, actor="ada", reason="sure")
    house.until("probation")
    assert _version_state(house, challenger) == "champion"
    assert house.command("abort") == "done"
    house.until("none")
    assert (house.last().state, house.route.champion) == (cy.CycleState.ROLLED_BACK, 1)
    assert house.failed == []


def test_a_bundle_that_was_altered_after_its_export_is_refused_and_triton_never_sees_it(house: House) -> None:
    before = house.control.versions(ENGINE)
    assert house.command("pause") == "done"
    version = house.rollout()
    (house.place.repository.staging / f"{ENGINE}-{version}" / "model.onnx").write_bytes(b"nothing")
    assert house.command("resume") == "done"
    house.until("none")
    assert house.last().state is cy.CycleState.REFUSED
    assert "model.onnx is truncated" in house.last().note
    assert not house.workspace.bundle(MODEL, version).exists()
    assert house.control.versions(ENGINE) == before


def test_a_version_that_needs_more_memory_than_there_is_is_not_published(house: House) -> None:
    assert house.command("pause") == "done"
    version = house.rollout()
    row = house.ledger.version(MODEL, version)
    house.ledger.set_version_state(MODEL, version, row.state, metrics={"gate": {"challenger_load_mb": 1e9}})
    assert house.command("resume") == "done"
    house.until("none")
    assert house.last().state is cy.CycleState.FAILED
    assert "took 1000000000 MB to load" in house.last().note
    assert not house.workspace.bundle(MODEL, version).exists()
    assert house.failed == []


def test_memory_that_is_given_back_in_a_moment_is_waited_for(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    free = iter([1.0])
    monkeypatch.setattr(steps, "_FREEING_S", 0.01)
    monkeypatch.setattr(steps, "available_mb", lambda: next(free, 2e9))
    assert house.command("pause") == "done"
    version = house.rollout(canary=True)
    row = house.ledger.version(MODEL, version)
    house.ledger.set_version_state(MODEL, version, row.state, metrics={"gate": {"challenger_load_mb": 1e9}})
    assert house.command("resume") == "done"
    house.until("canary")


def _set_probation(house: House, seconds: Any) -> None:
    """Settings are frozen for everybody but a test that cannot wait."""
    settings = house.workspace.settings.models[MODEL]
    house.workspace.settings.models[MODEL] = settings.model_copy(
        update={"cycle": settings.cycle.model_copy(update={"probation_s": seconds})}
    )
