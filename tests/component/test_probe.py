"""Whom a probe asks, and what it makes of the answer."""

from collections.abc import Iterator

import numpy as np
import pytest
from tritonclient.grpc import InferenceServerClient, InferInput

from perennial.continual.errors import NotFound, PublishFailed
from perennial.ops.serving.client import PerennialClient
from perennial.ops.serving.secret import PARAMETER
from perennial.ops.serving.server.server import TritonServer
from perennial.ops.traffic import TrafficLog
from tests.component.triton_fixtures import MODEL, Place, probe

pytestmark = [pytest.mark.component, pytest.mark.alone]


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
    probe(server)


def test_a_probe_of_a_model_that_is_not_there_says_so(server):
    with pytest.raises(NotFound, match="probing other"):
        probe(server, "other")


def test_a_request_without_the_secret_is_no_probe_whatever_its_id_and_is_logged(place, server):
    place.route(champion=1, resident=(1,), epoch=3)
    tensor = InferInput("TEXT", [1, 1], "BYTES")
    tensor.set_data_from_numpy(np.array([[b"card lost"]], dtype=object))
    ids = []
    with InferenceServerClient(server.spec.url) as client:
        for parameters in (None, {PARAMETER: "guessed"}, {PARAMETER: ""}):
            answer = client.infer(MODEL, [tensor], request_id="perennial-probe", parameters=parameters)
            ids.append(answer.as_numpy("PREDICTION_ID").item().decode())
    logged = TrafficLog(place.traffic).read(columns=["prediction_id"]).to_pylist()
    assert set(ids) <= {row["prediction_id"] for row in logged}


def test_a_probe_is_not_logged_and_tells_how_the_router_gets_on(place, server):
    before = len(TrafficLog(place.traffic).read(columns=["text"]).to_pylist())
    first = probe(server)
    with PerennialClient(server.spec.url, MODEL) as client:
        client.predict(["card lost"])
    second = probe(server)
    assert second.answered == first.answered + 1
    assert (second.error, second.stalled_s, second.rows_lost, second.substituted) == ("", 0.0, 0, False)
    assert len(TrafficLog(place.traffic).read(columns=["text"]).to_pylist()) == before + 1


def test_a_probe_of_an_idle_router_really_asks_the_engine(place, server):
    place.route(champion=7, resident=(1, 7), epoch=4)
    with pytest.raises(PublishFailed, match=r"router process .* says: .*version"):
        probe(server)
    place.route(champion=1, resident=(1,), epoch=5)
    probe(server)
