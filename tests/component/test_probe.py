"""Whom a probe asks, and what it makes of the answer."""

from collections.abc import Iterator

import numpy as np
import pytest
from tritonclient.grpc import InferenceServerClient

from continual.errors import NotFound
from continual.records import Arm
from ops.triton.client import PerennialClient
from ops.triton.probe import ChampionSilent, probe_router
from ops.triton.server import TritonServer
from tests.component.triton_fixtures import MODEL, Place

pytestmark = pytest.mark.component


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    place = Place(tmp_path_factory.mktemp("probed"))
    place.install((1,), router_instances=1)
    return place


@pytest.fixture(scope="module")
def server(place: Place) -> Iterator[TritonServer]:
    server = TritonServer(place.spec())
    server.start()
    yield server
    server.stop()


def test_a_probe_asks_the_champion_though_a_challenger_takes_the_traffic(place, server):
    """The challenger's folder is missing, so that the champion answers all that is meant for it, as a fallback."""
    place.route(champion=1, challenger=2, share=0.99, resident=(1, 2), epoch=2)
    with PerennialClient(server.spec.url, MODEL) as client:
        assert {answer.version for answer in client.predict(["card"] * 8)} == {1}
    probe_router(server.spec.url, MODEL)


def test_a_probe_of_a_model_that_is_not_there_says_so(server):
    with pytest.raises(NotFound, match="probing other"):
        probe_router(server.spec.url, "other")


@pytest.mark.parametrize("arm", list(Arm))
def test_a_probe_that_another_version_answers_tells_that_the_champion_is_silent(server, monkeypatch, arm):
    ask = InferenceServerClient.infer

    class Told:
        def __init__(self, result):
            self._result = result

        def as_numpy(self, name):
            told = self._result.as_numpy(name)
            assert told is not None
            return np.array([[arm.value.encode()]], dtype=object) if name == "ARM" else told

    monkeypatch.setattr(InferenceServerClient, "infer", lambda *args, **named: Told(ask(*args, **named)))
    if arm is Arm.FALLBACK:
        with pytest.raises(ChampionSilent, match=r"champion of intent at .* does not answer"):
            probe_router(server.spec.url, MODEL)
    else:
        probe_router(server.spec.url, MODEL)
