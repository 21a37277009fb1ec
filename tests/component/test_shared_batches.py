"""Callers whose requests are answered together on the real Triton: one's bad text is no other's error."""

import threading
from collections.abc import Iterator

import numpy as np
import pytest
from tritonclient.grpc import InferenceServerClient, InferInput, InferRequestedOutput

from perennial.continual.errors import PerennialError
from perennial.exporters.contract import PROGRESS
from perennial.ops.serving.client import PerennialClient
from perennial.ops.serving.probe import ChampionSilent
from perennial.ops.serving.router.progress import Progress
from perennial.ops.serving.secret import PARAMETER
from perennial.ops.serving.server.server import TritonServer
from tests.component.triton_fixtures import ENGINE, MODEL, Place, probe

pytestmark = [pytest.mark.component, pytest.mark.alone]
_ROUNDS = 40


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Place, TritonServer]]:
    """Version 2 raises an error at "hello", 1 does at nothing; one router process."""
    place = Place(tmp_path_factory.mktemp("shared"))
    place.install((1,), router_instances=1)
    place.repository.publish(place.stage(2, fails=True), ENGINE, 2)
    place.repository.set_versions(ENGINE, (1, 2))
    server = TritonServer(place.spec())
    server.start()
    try:
        yield place, server
    finally:
        server.stop()


def _ask(server: TritonServer, text: str, answers: list[str]) -> None:
    with PerennialClient(server.spec.url, MODEL, timeout_s=20.0) as client:
        for _ in range(_ROUNDS):
            try:
                answers.append(f"{client.predict([text])[0].version}")
            except PerennialError as exc:
                answers.append(str(exc))


def _together(server: TritonServer, texts: list[str]) -> list[list[str]]:
    answers: list[list[str]] = [[] for _ in texts]
    threads = [
        threading.Thread(target=_ask, args=(server, text, into)) for text, into in zip(texts, answers, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


def test_a_text_that_the_champion_refuses_fails_nobody_elses_request(served):
    place, server = served
    place.route(champion=2, resident=(1, 2), epoch=2)
    *good, bad = _together(server, ["card lost"] * 5 + ["hello"])
    assert {answer for answers in good for answer in answers} == {"2"}
    assert all("did not answer" in answer for answer in bad)


def test_nobody_elses_request_goes_to_the_version_before_it_either(served):
    place, server = served
    place.route(champion=2, previous=1, resident=(1, 2), epoch=3)
    *good, bad = _together(server, ["card lost"] * 5 + ["hello"])
    assert {answer for answers in good for answer in answers} == {"2"}
    assert set(bad) == {"1"}


def test_a_probe_is_answered_by_the_version_before_a_failing_champion_and_told_so(served):
    place, server = served
    place.route(champion=2, previous=1, resident=(1, 2), epoch=4)
    tensor = InferInput("TEXT", [1, 1], "BYTES")
    tensor.set_data_from_numpy(np.array([[b"hello"]], dtype=object))
    with InferenceServerClient(server.spec.url) as client:
        outputs = [InferRequestedOutput(PROGRESS)]
        answer = client.infer(MODEL, [tensor], parameters={PARAMETER: server.kept_secret()}, outputs=outputs)
    assert Progress.read(answer.as_numpy(PROGRESS).item().decode()).substituted
    with pytest.raises(ChampionSilent, match="champion of intent at"):
        _probe_with(server, "hello")
    assert not probe(server).substituted


def _probe_with(server: TritonServer, text: str) -> None:
    """A probe that asks the text which the champion refuses."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("perennial.ops.serving.tasks.text_classification._TextClassification.probe", text)
        probe(server)
