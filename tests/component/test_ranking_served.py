"""A ranking on the real Triton: lists, their log, clicks that count at once, exploration, and a swap under it."""

import json
import time
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from perennial.client.rankings import RankedList
from perennial.continual.atomic_file import write_atomically
from perennial.continual.learning.ranking import Ask, Event, Exploration, Ranked, TrainedRanking
from perennial.continual.records import Route
from perennial.exporters.ranking.asked import Asked
from perennial.exporters.triton_config import EngineSpec, RouterSpec
from perennial.ops.serving.client import PerennialClient
from perennial.ops.serving.processes import free_port
from perennial.ops.serving.repository import ModelRepository
from perennial.ops.serving.router.router import RouterSettings
from perennial.ops.serving.server.server import ServerSpec, TritonServer
from perennial.ops.serving.tasks.ranking import SIDE
from perennial.ops.store.user_events import UserEvents
from perennial.ops.traffic import TrafficLog
from tests.component.ranking_fixtures import export_ranking, train_ranking
from tests.unit.learning.ranking.town import events

pytestmark = [pytest.mark.component, pytest.mark.paired]
MODEL, ENGINE = "shop", "shop_engine"
_PATIENCE_S = 60


class Shop:
    """One server with two versions: the first explores nothing, the second has learnt other likings and explores."""

    def __init__(self, root: Path) -> None:
        self.root, self.epoch = root, 0
        self.traffic, self.users = root / "var" / "traffic", root / "var" / "users" / "shop.db"
        self.repository = ModelRepository(root / "model_repository")
        self.trained = {
            1: train_ranking(root / "trained-1"),
            2: train_ranking(root / "trained-2", seed=2, exploration=Exploration(share=0.5, most=3)),
        }
        router = RouterSettings(
            model=MODEL,
            engine_model=ENGINE,
            route_path=root / "var" / "route.json",
            repository=self.repository.root,
            traffic_dir=self.traffic,
            task="ranking",
            memory_path=self.users,
        )
        self.repository.install_router(
            RouterSpec(model=MODEL, signature=SIDE.signature, parameters=router.to_parameters(), instances=1)
        )
        self.repository.install_engine(EngineSpec(model=ENGINE, signature=SIDE.engine, threads=1))
        previous = None
        for version, trained in self.trained.items():
            made = export_ranking(self.repository.staging / str(version), trained, version, previous=previous)
            previous = self.repository.publish(made.bundle, ENGINE, version)
        self.repository.set_versions(ENGINE, (1, 2))
        self.route(champion=1)
        with UserEvents(self.users) as kept:
            kept.add(events(seed=1))
        ports = [free_port() for _ in range(3)]
        self.server = TritonServer(
            ServerSpec(
                folder=root / "var" / "triton",
                repository=self.repository.root,
                models=(ENGINE, MODEL),
                grpc_port=ports[0],
                http_port=ports[1],
                metrics_port=ports[2],
            )
        )

    def route(self, *, champion: int) -> None:
        self.epoch += 1
        route = Route(model=MODEL, epoch=self.epoch, champion=champion, resident=(1, 2))
        write_atomically(self.root / "var" / "route.json", json.dumps(asdict(route)))

    def ask(self, *asked: Asked) -> list[RankedList]:
        with PerennialClient(self.server.spec.url, MODEL, timeout_s=_PATIENCE_S, task="ranking") as client:
            return list(client.predict(list(asked), scores=True))

    def own(self, asked: Asked, version: int = 1) -> Ranked:
        """What the trained model itself says, without any engine."""
        folder = self.trained[version]
        model = TrainedRanking.load(folder).recommender(TrainedRanking.sums(folder))
        with UserEvents(self.users) as kept:
            profile = kept.profile(asked.user)
        return model.rank(
            Ask(
                count=asked.count,
                at=datetime.now(UTC),
                candidates=None if asked.candidates is None else frozenset(asked.candidates),
                withheld=frozenset(asked.withheld),
                language=asked.language,
                context=asked.context,
            ),
            profile,
        )

    def logged(self, received: RankedList) -> dict[str, Any]:
        (row,) = TrafficLog(self.traffic).lookup([received.prediction_id], None).to_pylist()
        return dict(row)

    def unremembered(self) -> float:
        exposition = httpx.get(f"http://127.0.0.1:{self.server.spec.metrics_port}/metrics", timeout=10).text
        lines = (line for line in exposition.splitlines() if line.startswith("perennial_requests_unremembered_total{"))
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    shop = Shop(tmp_path_factory.mktemp("shop"))
    shop.server.start()
    try:
        yield shop
    finally:
        shop.server.stop()


@pytest.fixture(autouse=True)
def _champion_is_one(shop: Shop) -> None:
    shop.route(champion=1)


def test_every_list_is_the_trained_models_own(shop: Shop) -> None:
    asked = [
        Asked(user="u00"),
        Asked(user="u01", count=3),
        Asked(user="u02", context="roses in spring"),
        Asked(user="u03", candidates=("i01", "i02", "i05", "i38"), count=4),
        Asked(user="u04", withheld=("i31", "i33"), language="en", count=20),
        Asked(user="somebody new"),
    ]
    for received, one in zip(shop.ask(*asked), asked, strict=True):
        wanted = shop.own(one)
        assert received.items == wanted.items
        assert received.scores == pytest.approx([placed.score for placed in wanted.places], abs=1e-4)
        assert received.propensities == (1.0,) * len(wanted.items)
        assert received.version == 1


def test_somebody_new_gets_what_is_popular_and_hears_so(shop: Shop) -> None:
    (received,) = shop.ask(Asked(user="nobody yet", count=5))
    structure = TrainedRanking.load(shop.trained[1]).structure
    support = dict(zip(structure.names, structure.support.tolist(), strict=True))
    assert [support[item] for item in received.items] == sorted(support.values(), reverse=True)[:5]
    assert received.reasons == ("popular",) * 5


def test_a_list_over_http_with_k_and_candidates(shop: Shop) -> None:
    inputs = [
        {"name": "USER", "shape": [1, 1], "datatype": "BYTES", "data": ["u05"]},
        {"name": "K", "shape": [1, 1], "datatype": "INT32", "data": [2]},
        {"name": "CANDIDATES", "shape": [1, 1], "datatype": "BYTES", "data": ['["i36", "i37", "i38", "i39"]']},
    ]
    url = f"http://127.0.0.1:{shop.server.spec.http_port}/v2/models/{MODEL}/infer"
    reply = httpx.post(url, json={"inputs": inputs}, timeout=_PATIENCE_S)
    outputs = {tensor["name"]: tensor for tensor in reply.json()["outputs"]}
    assert set(outputs) == {"ITEMS", "SCORES", "REASON", "VERSION", "PREDICTION_ID"}
    wanted = shop.own(Asked(user="u05", candidates=("i36", "i37", "i38", "i39"), count=2))
    assert tuple(outputs["ITEMS"]["data"]) == wanted.items


@pytest.mark.parametrize("value", [0, -1, 101, 2**40, 1.5, "ten", None, True, [3, 3]])
def test_a_wrong_k_over_http_is_a_callers_mistake(shop: Shop, value: Any) -> None:
    inputs = [
        {"name": "USER", "shape": [1, 1], "datatype": "BYTES", "data": ["u05"]},
        {"name": "K", "shape": [1, 1], "datatype": "INT32", "data": value if isinstance(value, list) else [value]},
    ]
    url = f"http://127.0.0.1:{shop.server.spec.http_port}/v2/models/{MODEL}/infer"
    reply = httpx.post(url, json={"inputs": inputs}, timeout=_PATIENCE_S)
    assert reply.status_code == 400 or (reply.status_code == 200 and value is True), reply.text
    assert len(shop.ask(Asked(user="u05"))) == 1


def test_what_was_asked_and_how_likely_each_place_was_are_logged(shop: Shop) -> None:
    asked = Asked(user="u06", context="mail jo@example.org about roses", segment="north", withheld=("i01",), count=4)
    (received,) = shop.ask(asked)
    row = shop.logged(received)
    assert (row["user"], row["key"], row["segment"], row["version"]) == ("u06", "u06", "north", 1)
    assert (row["context"], row["redacted"]) == ("mail [email] about roses", True)
    assert json.loads(row["ask"]) == {"count": 4, "candidates": None, "withheld": ["i01"], "language": ""}
    assert tuple(json.loads(row["prediction"])) == received.items
    assert json.loads(row["propensities"]) == [1.0] * 4
    again = SIDE.logged_input(row)
    assert again is not None
    assert (again.user, again.segment, again.withheld, again.count) == ("u06", "north", ("i01",), 4)
    assert again.at == datetime.fromisoformat(row["asked_at"])


def test_a_click_changes_the_next_list_without_a_new_version(shop: Shop) -> None:
    (before,) = shop.ask(Asked(user="clicker"))
    assert set(before.reasons) == {"popular"}
    with UserEvents(shop.users) as kept:
        kept.add([Event(user="clicker", item="i01", at=datetime.now(UTC))])
        (after,) = shop.ask(Asked(user="clicker"))
        assert after.items != before.items
        assert "i01" not in after.items
        assert after.reasons[0] == "because of i01"
        assert after.version == before.version
        assert after.items == shop.own(Asked(user="clicker")).items
        kept.block("clicker", after.items[0])
        (without,) = shop.ask(Asked(user="clicker"))
        assert after.items[0] not in without.items
        kept.erase("clicker")
        (forgotten,) = shop.ask(Asked(user="clicker"))
        assert forgotten.items == before.items


def test_users_that_cannot_be_read_cost_their_profile_and_no_answer(shop: Shop) -> None:
    away = shop.users.with_name("away.db")
    before = shop.unremembered()
    shop.users.rename(away)
    try:
        (received,) = shop.ask(Asked(user="u00"))
        assert set(received.reasons) == {"popular"}
    finally:
        away.rename(shop.users)
    assert shop.ask(Asked(user="u00"))[0].items == shop.own(Asked(user="u00")).items
    deadline = datetime.now(UTC).timestamp() + 10
    while shop.unremembered() <= before and datetime.now(UTC).timestamp() < deadline:
        time.sleep(0.2)
    assert shop.unremembered() > before


def test_a_new_structure_answers_once_the_route_says_so_and_explores(shop: Shop) -> None:
    asked = [Asked(user=f"u{number:02}", count=10) for number in range(20)]
    old = shop.ask(*asked)
    shop.route(champion=2)
    new = shop.ask(*asked)
    assert {received.version for received in new} == {2}
    assert [received.items for received in new] != [received.items for received in old]
    explored = [reason == "new here" for received in new for reason in received.reasons]
    assert 0 < sum(explored) <= 3 * len(asked)
    propensities = np.array([chance for received in new for chance in received.propensities or ()])
    assert (propensities > 0).all()
    assert (propensities < 1).any()
    for received, one in zip(new, asked, strict=True):
        logged = json.loads(shop.logged(received)["propensities"])
        assert logged == pytest.approx(received.propensities, abs=1e-6)
        exploited = [
            item for item, reason in zip(received.items, received.reasons, strict=True) if reason != "new here"
        ]
        wanted = [item for item in shop.own(one, 2).items if item in exploited]
        assert [item for item in exploited if item in wanted] == wanted
