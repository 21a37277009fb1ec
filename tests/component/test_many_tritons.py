"""Three real Tritons behind one route: all of them move, or none."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace

import pytest
from tritonclient.grpc import InferenceServerClient

from perennial.continual.errors import DependencyUnreachable, PerennialError, PublishFailed
from perennial.continual.records import Route
from perennial.continual.route import rolled_back
from perennial.exporters.text_classification.signature import TEXT_ENGINE, TEXT_ROUTER
from perennial.exporters.text_classification.tokens import padded
from perennial.exporters.triton_config import EngineSpec, RouterSpec
from perennial.ops.app.service import Service
from perennial.ops.commands.promotion import promote_version, roll_back_version
from perennial.ops.ledger import Ledger
from perennial.ops.parts import Parts
from perennial.ops.serving.client import PerennialClient
from perennial.ops.serving.control import TritonControl
from perennial.ops.serving.processes import free_port
from perennial.ops.serving.reconciler import Reconciler
from perennial.ops.serving.server.server import ServerSpec, TritonServer
from perennial.ops.serving.turns import ServersInTurn
from perennial.ops.settings import Settings
from perennial.ops.store.ledger_guard import LedgerBehind
from perennial.ops.store.route_changes import change_route
from perennial.ops.store.workspace import Workspace
from tests.component.triton_fixtures import ENGINE, MODEL, Place, router_settings

pytestmark = [pytest.mark.component, pytest.mark.paired]
_SERVERS = 3
_ANSWER_S = 5.0  # what a server that answers takes at the most, on a busy machine
_PATIENCE_S = 120.0  # for what is to become true, however busy the machine is


class Fleet:
    """Three servers on one repository and route folder, and the parts of one control process."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.specs: list[ServerSpec] = [
            replace(place.spec(), folder=place.root / f"triton-{n}", models=()) for n in range(_SERVERS)
        ]
        self.servers = [TritonServer(spec) for spec in self.specs]
        self.away: set[int] = set()  # servers that do not answer, by their place
        self.parts = self.opened()

    def opened(self, **api: int) -> Parts:
        """The parts of a control process that is told the servers' addresses."""
        place, urls = self.place, ",".join(server.spec.url for server in self.servers)
        settings = Settings(
            state=place.root / "var",
            repository=place.repository.root,
            models={MODEL: {}},
            triton={"url": urls, "router_instances": 1, "engine_threads": 1},
            api=api,
        )
        workspace = Workspace(settings)
        ledger = Ledger.open(settings.ledger_address)
        controls = tuple(
            TritonControl(server.spec.url, secret=server.kept_secret, timeout_s=_ANSWER_S) for server in self.servers
        )
        repository = place.repository  # one object: it knows what it installed
        return Parts(
            settings=settings,
            workspace=workspace,
            ledger=ledger,
            repository=repository,
            controls=controls,
            reconciler=Reconciler(ledger, workspace, repository, controls, answer_s=_ANSWER_S),
        )

    @property
    def route(self) -> Route:
        route = self.parts.ledger.route(MODEL)
        assert route is not None
        return route

    def held(self) -> list[set[int]]:
        """The versions that each server which is there has ready."""
        return [set(self.parts.controls[place].versions(ENGINE)) for place in self._there()]

    def answering(self) -> list[int]:
        """The version that each server which is there gives."""
        versions = []
        for place in self._there():
            with PerennialClient(self.specs[place].url, MODEL, timeout_s=60.0) as client:
                versions.append(client.predict(["card lost"])[0].version)
        return versions

    def _there(self) -> list[int]:
        there = [place for place in range(_SERVERS) if place not in self.away]
        for place in there:
            self.parts.controls[place].wait_live(60.0)
        return there

    @contextmanager
    def hanging(self, *places: int) -> Iterator[None]:
        """Servers that are there and do not answer, until the end."""
        pids = [pid for place in places if (pid := self.servers[place].pid) is not None]
        assert len(pids) == len(places)
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        self.away.update(places)
        try:
            yield
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGCONT)
            self.away.difference_update(places)

    def promote(self, version: int) -> None:
        promote_version(self.parts, MODEL, version, actor="test", reason="test")


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    place = Place(tmp_path_factory.mktemp("fleet"))
    place.install((1,), router_instances=1)
    fleet = Fleet(place)
    fleet.parts.ledger.register_model(MODEL, {})
    fleet.parts.ledger.set_route(
        Route(model=MODEL, epoch=1, champion=1, resident=(1,)), expected_epoch=0, actor="test", reason="first"
    )
    try:
        fleet.away = {2}  # it joins later
        for server in fleet.servers[:2]:
            server.start()
        yield fleet
    finally:
        with ThreadPoolExecutor(_SERVERS) as pool:
            list(pool.map(TritonServer.stop, fleet.servers))
        fleet.parts.close()


def test_a_pass_heals_the_servers_it_reaches_and_names_the_one_that_is_down(fleet):
    with pytest.raises(
        DependencyUnreachable, match=f"1 of 3 servers .*{fleet.specs[2].url}: .*did not answer"
    ) as refusal:
        fleet.parts.reconciler.reconcile(MODEL)
    assert fleet.specs[0].url not in str(refusal.value)
    assert fleet.answering() == [1, 1]
    assert {url for _, url in fleet.parts.reconciler.wrong} == {fleet.specs[2].url}


def test_no_version_is_routed_while_a_server_cannot_hold_it(fleet):
    fleet.place.publish(2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("perennial.ops.commands.promotion._PATIENCE_S", 1.0)
        with pytest.raises(DependencyUnreachable, match=fleet.specs[2].url):
            fleet.promote(2)
    assert (fleet.route.champion, fleet.route.resident) == (1, (1,))
    assert fleet.held() == [{1}, {1}]
    assert fleet.answering() == [1, 1]


def test_a_server_that_joins_later_catches_up(fleet):
    fleet.servers[2].start()
    fleet.away = set()
    healed = fleet.parts.reconciler.reconcile(MODEL)
    assert all(fleet.specs[2].url in heal.what for heal in healed)
    assert fleet.answering() == [1, 1, 1]
    assert fleet.parts.reconciler.reconcile(MODEL) == []
    assert fleet.parts.reconciler.wrong == {}


def test_all_servers_move_together_and_back(fleet):
    fleet.promote(2)
    assert fleet.held() == [{1, 2}] * 3
    assert fleet.answering() == [2, 2, 2]
    with fleet.hanging(0, 1, 2):  # the way back asks no server for anything
        change_route(fleet.parts.ledger, fleet.parts.workspace, MODEL, rolled_back(), actor="test", reason="back")
    assert fleet.answering() == [1, 1, 1]


def test_a_file_ahead_of_the_ledger_goes_back(fleet):
    route = fleet.route
    lost = replace(route, epoch=route.epoch + 1, champion=2, previous=1)
    fleet.parts.workspace.write_route(lost)  # as a process leaves it that is killed before its commit
    assert fleet.answering() == [2, 2, 2]
    healed = fleet.parts.reconciler.reconcile(MODEL)
    assert [heal.what for heal in healed] == [f"route file brought to epoch {route.epoch}"]
    assert fleet.answering() == [1, 1, 1]
    assert fleet.route == route


def test_a_version_that_fails_on_one_server_is_taken_out_of_all(fleet, monkeypatch):
    fleet.place.publish(3)
    bad = fleet.parts.controls[1]
    probe = bad.probe_engine

    def refuse(model: str, version: int, golden: object) -> float:
        if version == 3:
            raise PublishFailed(f"version 3 at {bad.url} differs from its golden answers")
        return probe(model, version, golden)

    monkeypatch.setattr(bad, "probe_engine", refuse)
    with pytest.raises(PublishFailed, match=f"1 of 3 servers .*{bad.url}.*golden"):
        fleet.promote(3)
    assert fleet.route.champion == 1
    assert 3 not in fleet.route.resident
    assert fleet.held() == [set(fleet.route.resident)] * 3
    assert fleet.answering() == [1, 1, 1]


def test_a_half_loaded_server_is_completed(fleet):
    control = fleet.parts.controls[0]
    fleet.place.repository.set_versions(ENGINE, (1,))
    control.load(ENGINE)
    control.unload(MODEL, wait_s=60)
    assert control.versions(ENGINE) == {1}
    healed = " ".join(heal.what for heal in fleet.parts.reconciler.reconcile(MODEL))
    assert f"{control.url} took {ENGINE} from [1] to [1, 2]" in healed
    assert f"{control.url} loaded router" in healed
    assert fleet.held() == [{1, 2}] * 3
    assert fleet.answering() == [1, 1, 1]


def test_a_server_that_hangs_delays_no_other_for_long(fleet):
    fleet.place.repository.set_versions(ENGINE, (1,))
    fleet.parts.controls[0].load(ENGINE)
    with fleet.hanging(2):
        started = time.monotonic()
        with pytest.raises(DependencyUnreachable, match=fleet.specs[2].url):
            fleet.parts.reconciler.reconcile(MODEL)
        assert time.monotonic() - started < 60  # a load is given three minutes
        assert fleet.held() == [{1, 2}] * 2
        change_route(fleet.parts.ledger, fleet.parts.workspace, MODEL, rolled_back(to=2), actor="test", reason="back")
        assert fleet.answering() == [2, 2]
    fleet.parts.reconciler.reconcile(MODEL, patience_s=60)
    assert fleet.answering() == [2, 2, 2]


def test_a_restarted_server_with_a_broken_old_version_still_gets_the_champion(fleet):
    labels = fleet.place.repository.root / ENGINE / "1" / "labels.json"
    sound = labels.read_bytes()
    labels.write_bytes(b"[]")
    fleet.servers[0].kill()
    fleet.servers[0].start()
    with pytest.raises(PublishFailed, match=f"{fleet.specs[0].url}: only version 2 of {ENGINE} could be loaded"):
        fleet.parts.reconciler.reconcile(MODEL)
    assert fleet.answering() == [2, 2, 2]
    assert fleet.held() == [{2}, {1, 2}, {1, 2}]
    labels.write_bytes(sound)
    fleet.parts.reconciler.reconcile(MODEL)
    assert fleet.held() == [{1, 2}] * 3


@contextmanager
def _broken_on_one_server(fleet: Fleet, version: int) -> Iterator[None]:
    """The first server was restarted while a resident version was corrupt, and holds what it could get."""
    engine = fleet.place.repository.root / ENGINE / str(version) / "model.onnx"
    sound = engine.read_bytes()
    engine.write_bytes(sound[:-1])
    fleet.servers[0].kill()
    fleet.servers[0].start()
    try:
        with pytest.raises(PublishFailed, match=f"{fleet.specs[0].url}: only version .* of {ENGINE} could be loaded"):
            fleet.parts.reconciler.reconcile(MODEL)
        yield
    finally:
        engine.write_bytes(sound)
        fleet.parts.reconciler.reconcile(MODEL)


def _roll_back(fleet: Fleet, to: int | None = None) -> None:
    roll_back_version(fleet.parts, MODEL, to=to, actor="test", reason="test")


def test_no_rollback_leads_to_a_version_that_a_server_does_not_hold(fleet):
    before = fleet.route
    with _broken_on_one_server(fleet, 1):
        for change in (_roll_back, lambda fleet: fleet.promote(1)):
            with pytest.raises(PublishFailed, match=f"{fleet.specs[0].url}"):
                change(fleet)
        assert fleet.route == before
        assert fleet.answering() == [2, 2, 2]


def test_a_rollback_heals_a_server_that_can_hold_the_version(fleet):
    fleet.place.repository.set_versions(ENGINE, (2,))
    fleet.parts.controls[0].load(ENGINE)
    assert fleet.held() == [{2}, {1, 2}, {1, 2}]
    _roll_back(fleet)
    assert fleet.held() == [{1, 2}] * 3
    assert fleet.answering() == [1, 1, 1]


def test_a_rollback_to_a_version_that_went_unseen_and_does_not_load_is_taken_back(fleet):
    before = fleet.route
    engine = fleet.place.repository.root / ENGINE / "1" / "model.onnx"
    sound = engine.read_bytes()
    fleet.promote(2)
    try:
        engine.write_bytes(b"nothing")
        fleet.place.repository.set_versions(ENGINE, (2,))
        fleet.parts.controls[0].load(ENGINE)
        assert fleet.parts.reconciler.proved(MODEL, 1), "the last pass knows nothing of it"
        with pytest.raises(PublishFailed, match="version 1 of intent is not loaded"):
            _roll_back(fleet)
        assert (fleet.route.champion, fleet.route.previous) == (2, 1)
        assert fleet.answering() == [2, 2, 2]
    finally:
        engine.write_bytes(sound)
        fleet.parts.reconciler.reconcile(MODEL)
    _roll_back(fleet, to=before.champion)
    assert fleet.answering() == [before.champion] * 3


def test_a_restarted_server_with_a_broken_champion_gets_the_version_before_it(fleet):
    with _broken_on_one_server(fleet, 1):
        assert fleet.held() == [{2}, {1, 2}, {1, 2}]
        assert fleet.answering() == [2, 1, 1]
    assert fleet.held() == [{1, 2}] * 3
    assert fleet.answering() == [1, 1, 1]


def test_a_rollback_while_a_server_is_away_or_hangs_does_not_wait_for_it(fleet):
    with fleet.hanging(2):
        started = time.monotonic()
        _roll_back(fleet, to=2)
        assert time.monotonic() - started < _ANSWER_S  # as long as a pass waits for a server
        assert fleet.answering() == [2, 2]
    fleet.parts.reconciler.reconcile(MODEL, patience_s=60)
    assert fleet.answering() == [2, 2, 2]


def _old_epoch(fleet: Fleet) -> None:
    fleet.place.route(champion=1, resident=(1, 2), epoch=1)


def _no_route(fleet: Fleet) -> None:
    fleet.place.route_path.write_text('{"model": "intent", "epoch": 1, "champion": 0, "resident": []}')


def _no_file(fleet: Fleet) -> None:
    fleet.place.route_path.unlink()


def _no_configuration(fleet: Fleet) -> None:
    (fleet.place.repository.root / ENGINE / "config.pbtxt").write_text("instance_group [ {")


def _other_configuration(fleet: Fleet) -> None:
    path = fleet.place.repository.root / MODEL / "config.pbtxt"
    path.write_text(path.read_text().replace("max_batch_size: 32", "max_batch_size: 31") + "\n# by hand\n")


def _surplus_version(fleet: Fleet) -> None:
    fleet.place.repository.set_versions(ENGINE, (1, 2, 3))
    fleet.parts.controls[1].load(ENGINE)
    assert 3 in fleet.parts.controls[1].versions(ENGINE)


@pytest.mark.parametrize(
    ("drift", "heal_note"),
    [
        (_old_epoch, "route file brought to epoch"),
        (_no_route, "route file brought to epoch"),
        (_no_file, "route file brought to epoch"),
        (_no_configuration, f"config.pbtxt of {ENGINE} was altered and is as installed"),
        (_other_configuration, f"config.pbtxt of {MODEL} was altered and is as installed"),
        (_surplus_version, "let go of [3]"),
    ],
)
def test_each_drift_from_the_ledger_is_healed_and_told(fleet, drift, heal_note):
    repository, root = fleet.parts.repository, fleet.place.repository.root
    installed = {name: (root / name / "config.pbtxt").read_text() for name in (ENGINE, MODEL)}
    repository.install_engine(EngineSpec(signature=TEXT_ENGINE, model=ENGINE, threads=1))
    settings = router_settings(fleet.place)
    repository.install_router(
        RouterSpec(signature=TEXT_ROUTER, model=MODEL, parameters=settings.to_parameters(), instances=1)
    )
    drift(fleet)
    assert heal_note in " ".join(heal.what for heal in fleet.parts.reconciler.reconcile(MODEL))
    assert fleet.answering() == [2, 2, 2]
    assert fleet.held() == [{1, 2}] * 3
    assert fleet.parts.workspace.read_route(MODEL) == fleet.route
    assert {name: (root / name / "config.pbtxt").read_text() for name in (ENGINE, MODEL)} == installed
    assert fleet.parts.reconciler.reconcile(MODEL) == []


def test_a_route_file_far_ahead_of_the_ledger_is_told_and_changes_nothing(fleet):
    kept = fleet.place.route_path.read_bytes()
    try:
        fleet.place.route(champion=2, resident=(1, 2), epoch=999)
        with pytest.raises(LedgerBehind, match="at epoch 999"):
            fleet.parts.reconciler.reconcile(MODEL)
        assert fleet.answering() == [2, 2, 2]
        assert fleet.held() == [{1, 2}] * 3
    finally:
        fleet.place.route_path.write_bytes(kept)
    assert fleet.parts.reconciler.reconcile(MODEL) == []


def test_a_resident_version_whose_folder_is_gone_is_named_and_the_others_are_served(fleet):
    folder = fleet.place.repository.root / ENGINE / "1"
    aside = folder.rename(fleet.place.root / "aside")
    with pytest.raises(
        PublishFailed, match=r"versions \[1\] of intent are in the route but not in .*restore the folders"
    ):
        fleet.parts.reconciler.reconcile(MODEL)
    assert fleet.answering() == [2, 2, 2]
    aside.rename(folder)
    fleet.parts.reconciler.reconcile(MODEL)
    assert fleet.held() == [{1, 2}] * 3


def test_strangers_are_unloaded(fleet):
    other = fleet.place.repository.root / "other"
    (other / "1").mkdir(parents=True)
    config = (fleet.place.repository.root / MODEL / "config.pbtxt").read_text()
    (other / "config.pbtxt").write_text(config.replace(f'name: "{MODEL}"', 'name: "other"'))
    fleet.parts.controls[0].load("other")
    assert fleet.parts.reconciler.unload_strangers(frozenset({MODEL, ENGINE})) == ["other"]
    with pytest.raises(PerennialError), PerennialClient(fleet.specs[0].url, "other") as client:
        client.predict(["card"])
    assert fleet.answering() == [2, 2, 2]


def test_a_service_goes_on_while_one_of_its_servers_is_down_and_names_it(fleet):
    fleet.servers[1].kill()
    away, well = fleet.specs[1].url, {spec.url for spec in (fleet.specs[0], fleet.specs[2])}
    parts = fleet.opened(port=free_port())
    patient = tuple(TritonControl(s.spec.url, secret=s.kept_secret, timeout_s=_PATIENCE_S) for s in fleet.servers)
    service = Service(parts)
    try:
        service.start()
        _eventually(lambda: away in service.servers.failing())
        _eventually(lambda: service.control.health().triton.healthy)
        _eventually(lambda: {service.control.health().triton.servers[url] for url in well} == {"ok"})
        _eventually(lambda: set(service.control.health().models[MODEL].wrong or {}) == {away})
        assert service.control.health().triton.servers[away].startswith(f"{MODEL}: ")
        _eventually(lambda: dict(service.control.ready().serving) == {MODEL: "ok"})
        _eventually(lambda: set(service.control.ready().failing) == {away})
        ready = service.control.ready()
        assert ready.ready
        assert set(ready.failing[away]) == {MODEL}

        turns = ServersInTurn(patient)
        inputs = padded([[2]])
        before = [_engine_answers(control) for control in patient if control.url in well]
        for _ in range(6):
            assert turns.infer_engine(ENGINE, fleet.route.champion, inputs)["logits"].shape == (1, 3)
        after = [_engine_answers(control) for control in patient if control.url in well]
        assert all(new > old for new, old in zip(after, before, strict=True)), "each server has its turn"
        with pytest.raises(PerennialError, match="9"):
            turns.infer_engine(ENGINE, 9, inputs)
    finally:
        service.stop()
        for control in patient:
            control.close()


def _eventually(what: Callable[[], bool]) -> None:
    """Wait for what a probe of a busy machine may see later than it is so."""
    end = time.monotonic() + _PATIENCE_S
    while not what():
        assert time.monotonic() < end, f"not so within {_PATIENCE_S:g} s"
        time.sleep(0.1)


def _engine_answers(control: TritonControl) -> int:
    with InferenceServerClient(control.url) as client:
        statistics = client.get_inference_statistics(ENGINE, client_timeout=_PATIENCE_S)
    return sum(int(stats.inference_stats.success.count) for stats in statistics.model_stats)
