"""One pass of the reconciler, fault by fault: what it loads, proves, drops and tells, and in which order."""

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from threading import Timer

import pytest

from perennial.continual.errors import BundleRejected, DependencyUnreachable, NotFound, PublishFailed
from perennial.continual.records import Route
from perennial.exporters.golden import Golden, Known
from perennial.exporters.text_classification.signature import TEXT_ENGINE, TEXT_ROUTER
from perennial.exporters.triton_config import EngineSpec, RouterSpec
from perennial.ops.ledger import Ledger, VersionRow, VersionState
from perennial.ops.serving.control import NoSecret, TritonControl
from perennial.ops.serving.reconciler import Reconciler
from perennial.ops.serving.repository import ModelRepository
from perennial.ops.settings import Settings
from perennial.ops.store.ledger_guard import LedgerBehind
from perennial.ops.store.state import REMOVED, Removal
from perennial.ops.store.workspace import Workspace
from tests.component.databases import fresh_url
from tests.unit.serving.one_triton import OneTriton

ENGINE = "intent_engine"
pytestmark = pytest.mark.timeout(120)  # patience that never ends


class World:
    """A ledger, a repository and some servers."""

    def __init__(self, folder: Path, servers: int = 1) -> None:
        models: dict[str, dict[str, str]] = {"intent": {}, "topic": {}}
        settings = Settings.model_validate(
            {"state": folder / "state", "repository": folder / "repository", "models": models}
        )
        self.workspace = Workspace(settings)
        self.repository = ModelRepository(settings.repository)
        folder.joinpath("ledger").mkdir()
        self.ledger = Ledger.open(fresh_url("sqlite", folder / "ledger"))
        for model in models:
            self.repository.install_router(RouterSpec(signature=TEXT_ROUTER, model=model, parameters={}))
            self.repository.install_engine(EngineSpec(signature=TEXT_ENGINE, model=f"{model}_engine"))
            self.ledger.register_model(model, {})
        self.servers = [OneTriton(settings.repository, self.champion_of_file) for _ in range(servers)]
        self.controls = tuple(TritonControl(server.url, timeout_s=20.0) for server in self.servers)
        self.reconciler = Reconciler(self.ledger, self.workspace, self.repository, self.controls, answer_s=0.3)

    @property
    def triton(self) -> OneTriton:
        return self.servers[0]

    def champion_of_file(self) -> int | None:
        route = self.workspace.read_route("intent")
        return None if route is None else route.champion

    def export(self, *versions: int, model: str = "intent") -> None:
        for version in versions:
            folder = self.workspace.bundle(model, version)
            folder.mkdir(parents=True)
            token = float(version)
            inputs = {
                "input_ids": Known(datatype="INT64", rows=((version,),)),
                "attention_mask": Known(datatype="INT64", rows=((1,),)),
            }
            outputs = {"logits": Known(datatype="FP32", rows=((token, -token),))}
            Golden(inputs=inputs, outputs=outputs, tolerance=0.5).write(folder)

    def route(self, champion: int, *resident: int, model: str = "intent", previous: int | None = None) -> Route:
        """Move the ledger's route, and not the router's file."""
        before = self.ledger.route(model)
        known = {row.version for row in self.ledger.versions(model)}
        for version in sorted({champion, *resident} - known):
            self.ledger.add_version(VersionRow(model=model, version=version, state=VersionState.PUBLISHED))
        epoch = 0 if before is None else before.epoch
        route = Route(
            model=model, epoch=epoch + 1, champion=champion, previous=previous, resident=resident or (champion,)
        )
        self.ledger.set_route(route, expected_epoch=epoch, actor="ann", reason="a test")
        return route

    def named(self) -> tuple[int, ...]:
        return self.repository.engine_versions(ENGINE)

    def pass_(self, patience_s: float = 0.0) -> list[str]:
        return [healed.what for healed in self.reconciler.reconcile("intent", patience_s=patience_s)]

    def close(self) -> None:
        for control in self.controls:
            control.close()
        for server in self.servers:
            server.stop()
        self.ledger.close()


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., World]]:
    made: list[World] = []

    def one(servers: int = 1) -> World:
        made.append(World(tmp_path, servers))
        return made[-1]

    yield one
    for world in made:
        world.close()


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds of every sleep."""
    noted: list[float] = []
    sleep = time.sleep

    def pause(seconds: float) -> None:
        noted.append(seconds)
        sleep(seconds)

    monkeypatch.setattr("time.sleep", pause)
    return noted


@pytest.fixture
def world(make: Callable[..., World]) -> World:
    return make()


def test_a_first_pass_brings_all_up_and_tells_of_it_and_the_next_finds_nothing_to_do(world: World) -> None:
    world.export(1, 2)
    route = world.route(2, 1, 2, previous=1)
    assert world.pass_() == [
        "route file brought to epoch 1",
        f"config.pbtxt of {ENGINE} names versions [1, 2]",
        f"{world.triton.url} took {ENGINE} from [] to [1, 2]",
        f"{world.triton.url} loaded router intent",
    ]
    assert world.triton.loaded == {ENGINE: {1, 2}, "intent": {1}}
    assert world.workspace.read_route("intent") == route
    assert world.triton.inferences == [1, 2]
    loads = list(world.triton.loads)
    assert world.pass_() == []
    assert (world.triton.loads, world.triton.inferences) == (loads, [1, 2])
    assert world.reconciler.wrong == {}
    assert [world.reconciler.proved("intent", version) for version in (1, 2, 3)] == [True, True, False]


def test_a_version_is_woken_on_each_server_and_one_that_is_away_or_fails_keeps_nobody_from_it(
    make: Callable[..., World], caplog: pytest.LogCaptureFixture
) -> None:
    world = make(2)
    world.export(1, 2)
    world.route(2, 1, 2, previous=1)
    world.pass_()
    for server in world.servers:
        server.inferences.clear()
    world.reconciler.wake("intent", 1)
    assert [server.inferences for server in world.servers] == [[1], [1]]
    world.servers[0].stop()
    world.reconciler.wake("intent", 1)
    assert world.servers[1].inferences == [1, 1]
    assert [vars(record)["url"] for record in caplog.records if record.message == "version.not_woken"] == [
        world.controls[0].url
    ]


def test_a_version_that_cannot_answer_is_told_before_a_route_leads_to_it(world: World) -> None:
    world.export(1, 2)
    world.route(2, 1, 2, previous=1)
    world.pass_()
    world.triton.liars = {1}
    with pytest.raises(PublishFailed, match=r"version 1 of intent cannot answer at .* golden answers"):
        world.reconciler.wake("intent", 1)
    world.reconciler.wake("intent", 2)
    shutil.rmtree(world.workspace.bundle("intent", 2))
    with pytest.raises(PublishFailed, match="and the champion stays: the files of version 2 are gone from"):
        world.reconciler.wake("intent", 2)


@pytest.mark.parametrize(
    ("errors", "refused"),
    [
        ([PublishFailed("its process ended")], False),
        ([PublishFailed("no memory"), PublishFailed("no memory")], True),
        ([NoSecret("it answers the routers alone")], False),
        ([NotFound("it is not there")], False),
    ],
)
def test_a_version_is_refused_for_what_it_says_twice(
    world: World, monkeypatch: pytest.MonkeyPatch, errors: list[Exception], refused: bool
) -> None:
    world.export(1)
    world.route(1)
    world.pass_()

    def probe(*_: object, **__: object) -> float:
        if errors:
            raise errors.pop(0)
        return 0.0

    monkeypatch.setattr(world.controls[0], "probe_engine", probe)
    with pytest.raises(PublishFailed, match="cannot answer") if refused else nullcontext():
        world.reconciler.wake("intent", 1)
    assert errors == []


def test_every_heal_names_its_model_and_is_logged(world: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "perennial.ops.serving.reconciler")
    world.export(1)
    world.route(1)
    healed = world.reconciler.reconcile("intent")
    assert {heal.model for heal in healed} == {"intent"}
    logged = [(r.getMessage(), vars(r)["model"], vars(r)["what"]) for r in caplog.records]
    assert logged == [("reconcile.healed", "intent", heal.what) for heal in healed]


def test_what_the_routers_still_name_is_dropped_only_after_their_file_has_changed(world: World) -> None:
    world.export(1, 2)
    world.route(1)
    world.pass_()
    world.triton.loads.clear()
    world.route(2)
    assert world.pass_()[-1] == f"{world.triton.url} let go of [1] of {ENGINE}"
    assert world.triton.loads == [(ENGINE, (1, 2), 1), (ENGINE, (2,), 2)]
    assert world.triton.loaded[ENGINE] == {2}
    assert world.named() == (2,)


def test_no_pass_brings_up_a_model_that_was_removed(world: World) -> None:
    world.export(1)
    world.route(1)
    gone = Removal(by="ann", at="2026-03-01T12:00:00+00:00")
    REMOVED.keep(world.ledger, "intent", gone)
    assert (world.pass_(), world.triton.loads, world.reconciler.wrong) == ([], [], {})
    REMOVED.keep(world.ledger, "intent", None)
    assert world.pass_() != []
    assert world.triton.loaded == {ENGINE: {1}, "intent": {1}}


@pytest.mark.parametrize("liars", [set(), {1}], ids=["well", "wrong"])
def test_a_pass_under_way_lets_go_of_a_model_that_is_removed_meanwhile(world: World, liars: set[int]) -> None:
    world.export(1)
    world.route(1)
    world.triton.liars = liars
    gone = Removal(by="ann", at="2026-03-01T12:00:00+00:00")
    world.triton._route_champion = lambda: REMOVED.keep(world.ledger, "intent", gone)
    with suppress(BundleRejected):
        world.pass_()
    assert world.triton.loads != []
    assert world.triton.loaded == {}


@pytest.mark.parametrize("part", ["champion", "challenger"])
def test_a_challenger_that_the_file_names_is_kept_like_a_champion(world: World, part: str) -> None:
    world.export(1, 2, 3)
    routes = {"challenger": Route(model="intent", epoch=2, champion=1, challenger=2, share=0.1, resident=(1, 2))}
    routes["champion"] = Route(model="intent", epoch=2, champion=2, previous=1, resident=(1, 2))
    world.route(1)
    world.route(1, 1, 3)
    world.pass_()
    world.repository.set_versions(ENGINE, (1, 2, 3))
    world.controls[0].load(ENGINE)
    world.workspace.write_route(routes[part])
    world.triton.loads.clear()
    world.route(1, 1)
    world.pass_()
    assert [load[1] for load in world.triton.loads] == [(1,)]
    assert world.triton.loaded[ENGINE] == {1}


def test_a_version_of_the_file_without_a_folder_is_asked_of_nobody(world: World) -> None:
    world.export(1)
    world.route(1)
    world.workspace.write_route(Route(model="intent", epoch=2, champion=7, resident=(7,)))
    world.pass_()
    assert world.triton.loads[0] == (ENGINE, (1,), 7)


def test_a_version_that_a_server_lost_proves_itself_anew_and_the_others_need_not(world: World) -> None:
    world.export(1, 2)
    world.route(1, 1, 2)
    world.pass_()
    world.triton.loaded[ENGINE].discard(2)
    world.triton.liars.add(2)
    with pytest.raises(BundleRejected, match=r"version 2 .* differs from its golden answers"):
        world.pass_()
    assert world.triton.inferences == [1, 2, 2]
    assert [world.reconciler.proved("intent", version) for version in (1, 2)] == [False, False]
    assert set(world.reconciler.wrong) == {("intent", world.triton.url)}
    world.triton.liars.clear()
    assert world.pass_() == []
    assert world.triton.inferences == [1, 2, 2, 2]
    assert world.reconciler.proved("intent", 2)
    assert world.reconciler.wrong == {}


def test_a_restarted_server_gets_everything_back_and_proves_all_of_it(world: World) -> None:
    world.export(1, 2)
    world.route(1, 1, 2)
    world.pass_()
    world.triton.loaded.clear()
    assert world.pass_() == [
        f"{world.triton.url} took {ENGINE} from [] to [1, 2]",
        f"{world.triton.url} loaded router intent",
    ]
    assert world.triton.inferences == [1, 2, 1, 2]


def test_what_is_wrong_with_one_model_stays_told_while_another_is_well(world: World) -> None:
    world.export(1)
    world.export(1, model="topic")
    world.route(1)
    world.route(1, model="topic")
    world.triton.liars.add(1)
    with pytest.raises(BundleRejected):
        world.pass_()
    world.triton.liars.clear()
    world.reconciler.reconcile("topic")
    assert set(world.reconciler.wrong) == {("intent", world.triton.url)}
    assert "golden answers" in world.reconciler.wrong["intent", world.triton.url]
    assert [world.reconciler.proved(model, 1) for model in ("intent", "topic")] == [False, True]


def test_a_forgotten_model_leaves_the_proof_of_another_one_alone(world: World) -> None:
    world.export(1)
    world.export(1, model="topic")
    world.route(1)
    world.route(1, model="topic")
    world.pass_()
    world.reconciler.reconcile("topic")
    del world.triton.loaded["topic_engine"]
    world.triton.broken.add(1)
    with pytest.raises(PublishFailed):
        world.reconciler.reconcile("topic")
    assert [world.reconciler.proved(model, 1) for model in ("intent", "topic")] == [True, False]


def test_after_a_restart_a_broken_version_takes_the_champion_with_it_never(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.export(1, 2, 3)
    world.route(1, 1, 2, 3)
    world.triton.broken.add(2)
    with pytest.raises(PublishFailed, match=f"only version 1 of {ENGINE} could be loaded: .*failed to load"):
        world.pass_()
    assert world.triton.loaded == {ENGINE: {1}, "intent": {1}}
    assert world.named() == (1, 2, 3)
    assert world.champion_of_file() == 1
    assert [load[1] for load in world.triton.loads if load[0] == ENGINE] == [(1, 2, 3), (1,)]
    assert "reconcile.champion_only" in caplog.messages
    assert world.reconciler.proved("intent", 1) is False
    world.triton.broken.clear()
    assert f"{world.triton.url} took {ENGINE} from [1] to [1, 2, 3]" in world.pass_()


def test_a_broken_champion_is_stood_in_for_by_the_version_before_it(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.export(1, 2)
    world.route(2, 1, 2, previous=1)
    world.triton.broken.add(2)
    with pytest.raises(PublishFailed, match=f"only version 1 of {ENGINE} could be loaded"):
        world.pass_()
    assert world.triton.loaded == {ENGINE: {1}, "intent": {1}}
    assert [load[1] for load in world.triton.loads if load[0] == ENGINE] == [(1, 2), (2,), (1,)]
    assert world.named() == (1, 2)
    assert "reconcile.previous_only" in caplog.messages


def test_a_new_champion_is_loaded_beside_what_is_held_though_another_version_is_broken(world: World) -> None:
    world.export(1, 2, 3)
    world.route(1)
    world.pass_()
    world.triton.loads.clear()
    world.route(3, 1, 2, 3, previous=1)
    world.triton.broken.add(2)
    with pytest.raises(PublishFailed, match="only version 1, 3 of"):
        world.pass_()
    assert world.triton.loaded[ENGINE] == {1, 3}
    assert [load[1] for load in world.triton.loads] == [(1, 2, 3), (1, 3)]


def test_a_broken_new_champion_leaves_what_answers_alone(world: World) -> None:
    world.export(1, 2)
    world.route(1)
    world.pass_()
    world.triton.loads.clear()
    world.route(2, 1, 2, previous=1)
    world.triton.broken.add(2)
    with pytest.raises(PublishFailed, match=r"loading intent_engine: .*failed to load intent_engine version 2"):
        world.pass_()
    assert world.triton.loaded[ENGINE] == {1}
    assert [load[1] for load in world.triton.loads] == [(1, 2)]
    assert world.named() == (1, 2)


def test_a_broken_newcomer_beside_a_champion_that_answers_is_tried_once(world: World) -> None:
    world.export(1, 2, 3)
    world.route(1)
    world.pass_()
    world.triton.loads.clear()
    world.route(1, 1, 2, 3)
    world.triton.broken.add(3)
    with pytest.raises(PublishFailed, match="failed to load intent_engine version 3"):
        world.pass_()
    assert [load[1] for load in world.triton.loads] == [(1, 2, 3)]


def test_a_version_without_a_folder_is_told_and_the_others_are_brought_up(world: World) -> None:
    world.export(1)
    world.route(1, 1, 2, 3)
    with pytest.raises(PublishFailed, match=r"versions \[2, 3\] of intent are in the route but not in .*intent_engine"):
        world.pass_()
    assert world.triton.loaded == {ENGINE: {1}, "intent": {1}}
    assert world.named() == (1,)
    assert set(world.reconciler.wrong) == {("intent", "")}
    assert not world.reconciler.proved("intent", 1)


def test_where_no_version_has_a_folder_nothing_is_touched(world: World) -> None:
    world.route(1)
    with pytest.raises(PublishFailed, match=r"versions \[1\] of intent are in the route but not in"):
        world.pass_()
    assert world.triton.loads == []
    assert world.workspace.read_route("intent") is None


def test_a_wrong_newcomer_keeps_nothing_loaded_that_is_to_go(world: World) -> None:
    world.export(1, 2)
    world.route(1)
    world.pass_()
    world.route(2)
    world.triton.liars.add(2)
    with pytest.raises(BundleRejected, match="golden answers"):
        world.pass_()
    assert world.triton.loaded[ENGINE] == {2}


def test_what_the_routers_still_name_stays_loaded_beside_a_champion_whose_neighbour_is_broken(world: World) -> None:
    world.export(1, 2, 3)
    world.route(1)
    world.pass_()
    world.route(2, 2, 3)
    world.triton.liars.add(2)
    world.triton.broken.add(3)
    with pytest.raises(PublishFailed, match="only version 1, 2 of"):
        world.pass_()
    assert world.triton.loads[-3:-1] == [(ENGINE, (1, 2, 3), 1), (ENGINE, (1, 2), 1)]
    assert "golden answers" not in world.reconciler.wrong["intent", world.triton.url]


def test_a_version_that_is_not_there_after_a_load_is_told(world: World) -> None:
    world.export(1)
    world.route(1)
    world.triton.deaf.add(ENGINE)
    with pytest.raises(PublishFailed, match=r"intent_engine version 1 is not ready at .* after a load"):
        world.pass_()
    assert world.triton.loaded["intent"] == {1}


def test_a_router_that_is_not_ready_after_a_load_is_told(world: World) -> None:
    world.export(1)
    world.route(1)
    world.triton.deaf.add("intent")
    with pytest.raises(DependencyUnreachable, match=r"^router intent at .* is not ready after a load"):
        world.pass_()


def test_an_altered_configuration_is_mended_and_told(world: World) -> None:
    world.export(1)
    world.route(1)
    world.pass_()
    file = world.workspace.repository / "intent" / "config.pbtxt"
    installed = file.read_text(encoding="utf-8")
    file.write_text(installed.replace("max_batch_size: 64", "max_batch_size: 2"), encoding="utf-8")
    assert world.pass_() == ["config.pbtxt of intent was altered and is as installed"]
    assert file.read_text(encoding="utf-8") == installed


def test_a_server_that_is_away_is_waited_for_as_long_as_the_caller_has_patience(
    world: World, pauses: list[float]
) -> None:
    world.export(1)
    world.route(1)
    world.triton.stop()
    with pytest.raises(DependencyUnreachable, match=r"did not answer within 0\.3 s"):
        world.pass_()
    assert world.champion_of_file() == 1
    back = Timer(0.8, world.triton.start)
    back.start()
    assert f"{world.triton.url} loaded router intent" in world.pass_(patience_s=30.0)
    back.join()
    assert 0.25 in pauses, "between two tries it waits"
    assert world.reconciler.wrong == {}


def test_no_patience_is_had_with_a_server_that_answers_wrongly(world: World, pauses: list[float]) -> None:
    world.export(1)
    world.route(1)
    world.triton.liars.add(1)
    with pytest.raises(BundleRejected):
        world.pass_(patience_s=2.0)
    assert 0.25 not in pauses


def test_one_server_that_is_away_keeps_the_other_waiting_for_nothing(make: Callable[..., World]) -> None:
    world = make(2)
    world.export(1)
    world.route(1)
    world.servers[1].stop()
    with pytest.raises(
        DependencyUnreachable, match=f"intent: 1 of 2 servers do not match the ledger: {world.servers[1].url}: "
    ):
        world.pass_()
    assert world.servers[0].loaded == {ENGINE: {1}, "intent": {1}}
    assert set(world.reconciler.wrong) == {("intent", world.servers[1].url)}
    assert not world.reconciler.proved("intent", 1)
    world.servers[1].start()
    assert world.pass_() == [
        f"{world.servers[1].url} took {ENGINE} from [] to [1]",
        f"{world.servers[1].url} loaded router intent",
    ]
    assert world.reconciler.proved("intent", 1)


def test_each_server_proves_a_version_for_itself(make: Callable[..., World]) -> None:
    world = make(2)
    world.export(1)
    world.route(1)
    world.servers[1].liars.add(1)
    with pytest.raises(BundleRejected, match=r"intent: 1 of 2 servers .*golden answers"):
        world.pass_()
    assert [server.inferences for server in world.servers] == [[1], [1]]
    assert not world.reconciler.proved("intent", 1)


@pytest.mark.parametrize("missing", [False, True])
def test_faults_of_different_kinds_are_told_as_one(
    make: Callable[..., World], pauses: list[float], missing: bool
) -> None:
    world = make(2)
    world.export(1)
    world.route(1, *((1, 2) if missing else (1,)))
    world.servers[0].stop()
    world.servers[1].liars.add(1)
    with pytest.raises(PublishFailed) as refusal:
        world.pass_(patience_s=2.0)
    assert 0.25 not in pauses, "no patience is had: not all of them are away"
    assert str(refusal.value).startswith("intent: 2 of 2 servers do not match the ledger: ")
    assert ("the repository: versions [2]" in str(refusal.value)) is missing
    assert all(f"{server.url}: " in str(refusal.value) for server in world.servers)


def test_a_missing_folder_among_several_servers_is_no_servers_fault(make: Callable[..., World]) -> None:
    world = make(2)
    world.export(1)
    world.route(1, 1, 2)
    with pytest.raises(PublishFailed, match="intent: 0 of 2 servers do not match the ledger: the repository: versions"):
        world.pass_()


@pytest.mark.parametrize("servers", [1, 2])
@pytest.mark.parametrize("known", [True, False])
def test_a_ledger_that_is_behind_the_routers_commands_no_server(
    make: Callable[..., World], servers: int, known: bool
) -> None:
    world = make(servers)
    world.export(1, 2)
    if known:
        world.route(1)
    route = Route(model="intent", epoch=5, champion=2, resident=(2,))
    world.workspace.write_route(route)
    with pytest.raises(LedgerBehind, match=r"the ledger (has|knows no)"):
        world.pass_()
    assert all(server.loads == [] for server in world.servers)
    assert world.workspace.read_route("intent") == route
    assert set(world.reconciler.wrong) == {("intent", "")}


def test_a_model_without_a_route_is_left_alone(world: World) -> None:
    assert world.pass_() == []
    assert world.triton.loads == []


def test_a_pass_follows_the_route_as_it_is_when_its_turn_comes(world: World) -> None:
    world.export(1, 2)
    world.route(1)
    with world.reconciler._one_at_a_time("intent"):
        late = Timer(0.0, world.pass_)
        late.start()
        late.join(0.3)
        assert late.is_alive()
        world.route(2)
    late.join(30)
    assert world.triton.loaded[ENGINE] == {2}


def test_strangers_are_unloaded_and_told(world: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "perennial.ops.serving.reconciler")
    world.triton.loaded = {"intent": {1}, "b": {1, 2}, "a": {1}}
    assert world.reconciler.unload_strangers(frozenset({"intent"})) == ["a", "b"]
    assert world.triton.loaded == {"intent": {1}}
    events = [(r.getMessage(), vars(r)["model"], vars(r)["url"]) for r in caplog.records]
    assert events == [("reconcile.unloaded", name, world.triton.url) for name in ("a", "b")]


def test_an_old_file_of_the_same_epoch_is_brought_to_what_the_ledger_says(world: World) -> None:
    world.export(1, 2)
    route = world.route(1, 1, 2)
    world.workspace.write_route(replace(route, champion=2))
    assert "route file brought to epoch 1" in world.pass_()
    assert world.workspace.read_route("intent") == route


def test_without_a_server_the_disk_and_the_routers_file_are_seen_to(make: Callable[..., World]) -> None:
    world = make(0)
    world.export(1)
    route = world.route(1)
    assert world.pass_()[0] == "route file brought to epoch 1"
    assert (world.workspace.read_route("intent"), world.named()) == (route, (1,))


def test_a_missing_folder_and_a_wrong_server_are_told_together(world: World) -> None:
    world.export(1)
    world.route(1, 1, 2)
    world.triton.liars.add(1)
    with pytest.raises(PublishFailed) as refusal:
        world.pass_()
    assert str(refusal.value).startswith("intent: 1 of 1 servers do not match the ledger: the repository: versions [2]")
    assert f"; {world.triton.url}: {ENGINE} version 1" in str(refusal.value)
