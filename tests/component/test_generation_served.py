"""Rewrites on the real Triton: whole and piece by piece, refused and let through, and a swap while they are written."""

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import httpx
import pytest

from perennial.client import AsyncClient, Client, Places
from perennial.client.errors import ClientError
from perennial.client.inference import grpc_input
from perennial.client.rewrites import Rewrite, Rewritten, rewrite_tensors
from perennial.client.streams import Piece, stream_rewrite
from perennial.continual.atomic_file import write_atomically
from perennial.continual.records import Route
from perennial.continual.tasks.generation import check_rewrite
from perennial.exporters.generation.signature import STREAM_PIECES
from perennial.exporters.triton_config import EngineSpec, RouterSpec
from perennial.ops.serving.client import PerennialClient
from perennial.ops.serving.processes import free_port
from perennial.ops.serving.repository import ModelRepository
from perennial.ops.serving.router.router import RouterSettings
from perennial.ops.serving.server.server import ServerSpec, TritonServer
from perennial.ops.serving.tasks.generation import SIDE
from perennial.ops.traffic import TrafficLog
from tests.component.generation_fixtures import APPROVED, write_version

pytestmark = [pytest.mark.component, pytest.mark.paired]
MODEL, ENGINE, STREAM = "tell", "tell_engine", "tell_stream"
_PATIENCE_S = 60
_STREAMS = 3
LONG = " ".join(APPROVED[:2] * 6)


class Desk:
    """One server with two versions: one that is guided while it writes, and one that writes what it likes."""

    def __init__(self, root: Path) -> None:
        self.root, self.epoch = root, 0
        self.traffic = root / "var" / "traffic"
        self.repository = ModelRepository(root / "model_repository")
        router = RouterSettings(
            model=MODEL,
            engine_model=ENGINE,
            route_path=root / "var" / "route.json",
            repository=self.repository.root,
            traffic_dir=self.traffic,
            task="generation",
            champion_limit_s=30.0,
            challenger_limit_s=30.0,
        )
        for name, more in ((MODEL, {}), (STREAM, {"backend": "perennial_stream", "streams": STREAM_PIECES})):
            parameters = {**router.to_parameters(), "streams": str(_STREAMS)}
            spec = RouterSpec(model=name, signature=SIDE.signature, parameters=parameters, instances=1, **more)
            self.repository.install_router(spec)
        self.repository.install_engine(EngineSpec(model=ENGINE, signature=SIDE.engine, threads=1))
        for version, guided in ((1, True), (2, False)):
            staged = write_version(self.repository.staging / str(version), version, guided=guided)
            self.repository.publish(staged, ENGINE, version)
        self.repository.set_versions(ENGINE, (1, 2))
        self.route(champion=1)
        ports = [free_port() for _ in range(3)]
        self.server = TritonServer(
            ServerSpec(
                folder=root / "var" / "triton",
                repository=self.repository.root,
                models=(ENGINE, MODEL, STREAM),
                grpc_port=ports[0],
                http_port=ports[1],
                metrics_port=ports[2],
            )
        )

    def route(self, *, champion: int) -> None:
        self.epoch += 1
        route = Route(model=MODEL, epoch=self.epoch, champion=champion, resident=(1, 2))
        write_atomically(self.root / "var" / "route.json", json.dumps(asdict(route)))

    def ask(self, *asked: Rewrite) -> list[Rewritten]:
        with PerennialClient(self.server.spec.url, MODEL, timeout_s=_PATIENCE_S, task="generation") as client:
            return list(client.predict(list(asked), scores=True))

    def stream(self, asked: Rewrite) -> tuple[list[Piece], Rewritten]:
        *pieces, answer = stream_rewrite(self.server.spec.url, MODEL, asked, timeout_s=_PATIENCE_S)
        assert isinstance(answer, Rewritten)
        return [piece for piece in pieces if isinstance(piece, Piece)], answer

    def figure(self, name: str) -> float:
        exposition = httpx.get(f"http://127.0.0.1:{self.server.spec.metrics_port}/metrics", timeout=10).text
        lines = (line for line in exposition.splitlines() if line.startswith(f"perennial_stream_{name}{{"))
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines)

    def logged(self, prediction_id: str) -> dict[str, Any]:
        """The row of an answer, which a slow disk may write a moment later."""
        end = time.monotonic() + _PATIENCE_S
        while not (rows := TrafficLog(self.traffic).lookup([prediction_id], None).to_pylist()):
            assert time.monotonic() < end, f"{prediction_id} is not in the log"
            time.sleep(0.05)
        return dict(rows[0])

    def asked_of_engines(self) -> float:
        exposition = httpx.get(f"http://127.0.0.1:{self.server.spec.metrics_port}/metrics", timeout=10).text
        mine = (line for line in exposition.splitlines() if line.startswith("nv_inference_request_success{"))
        return sum(float(line.rsplit(" ", 1)[1]) for line in mine if f'model="{ENGINE}"' in line)

    def waits_for(self, name: str, value: float) -> None:
        end = time.monotonic() + _PATIENCE_S
        while self.figure(name) < value:
            assert time.monotonic() < end, f"{name} is {self.figure(name)}, below {value}"
            time.sleep(0.1)


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    desk = Desk(tmp_path_factory.mktemp("desk"))
    desk.server.start()
    try:
        yield desk
    finally:
        desk.server.stop()


@pytest.fixture(autouse=True)
def _champion_is_one(desk: Desk) -> None:
    desk.route(champion=1)


def test_a_guided_version_greets_and_changes_nothing(desk: Desk) -> None:
    asked = [Rewrite(approved=text, tone="friendly", name="Jo") for text in APPROVED]
    for one, told in zip(asked, desk.ask(*asked), strict=True):
        assert told.let_through, told.why
        assert "Jo" in told.answer
        assert check_rewrite(one.approved, told.answer, name="Jo").let_through
        assert told.rewritten == told.answer


def test_a_version_that_changes_facts_has_the_approved_reply_given(desk: Desk) -> None:
    desk.route(champion=2)
    told = desk.ask(Rewrite(approved=APPROVED[0], name="Jo"))[0]
    assert (told.answer, told.let_through, told.version) == (APPROVED[0], False, 2)
    assert told.why
    assert told.rewritten != APPROVED[0]


def test_pieces_come_one_by_one_and_are_what_is_answered(desk: Desk) -> None:
    pieces, told = desk.stream(Rewrite(approved=LONG, name="Jo"))
    assert "".join(piece.text for piece in pieces).strip() == told.answer
    assert [piece.index for piece in pieces][:1] == [0]
    assert len(pieces) > 5
    assert told.let_through
    row = desk.logged(told.prediction_id)
    assert row["approved"] == LONG
    assert "Jo" not in row["prediction"]
    assert "{name}" in row["prediction"]
    desk.waits_for("let_through_total", 1)
    assert desk.figure("tokens_total") > 5
    assert desk.figure("first_token_seconds_total") > 0


def test_a_stream_says_the_same_as_a_whole_answer(desk: Desk) -> None:
    asked = Rewrite(approved=APPROVED[1], tone="formal", name="Jo")
    assert desk.stream(asked)[1].answer == desk.ask(asked)[0].answer


def test_who_goes_away_is_written_for_no_longer(desk: Desk) -> None:
    desk.route(champion=2)
    before, end = desk.figure("cancelled_total"), time.monotonic() + _PATIENCE_S
    while (
        desk.figure("cancelled_total") <= before
    ):  # on a busy machine all may be written before the first piece is read
        assert time.monotonic() < end, "nobody noticed that the client went away"
        reading = stream_rewrite(desk.server.spec.url, MODEL, Rewrite(approved=LONG), timeout_s=_PATIENCE_S)
        next(reading)
        reading.close()
        while desk.figure("under_way"):
            assert time.monotonic() < end, "it is still written"
            time.sleep(0.05)


def test_a_whole_answer_that_nobody_waits_for_any_more_is_written_no_further(desk: Desk) -> None:
    from tritonclient.grpc import InferenceServerClient

    desk.route(champion=2)
    asked = [Rewrite(approved=f"{LONG} It costs ${number}.") for number in range(60)]
    one = desk.asked_of_engines()
    desk.ask(asked[0])
    one = desk.asked_of_engines() - one
    assert one > 10, "a whole answer takes many calls of its engine"
    inputs = [grpc_input(name, array) for name, array in rewrite_tensors(asked).items()]
    before, end = desk.asked_of_engines(), time.monotonic() + _PATIENCE_S
    with InferenceServerClient(desk.server.spec.url) as client:
        call = client.async_infer(MODEL, inputs, callback=lambda result, error: None)
        while desk.asked_of_engines() < before + 3:
            assert time.monotonic() < end
            time.sleep(0.02)
        call.cancel()
        seen, since, end = desk.asked_of_engines(), time.monotonic(), time.monotonic() + _PATIENCE_S
        while time.monotonic() < since + 1.0:
            assert time.monotonic() < end, f"{seen - before} calls of the engine, and still more"
            if (now := desk.asked_of_engines()) != seen:
                seen, since = now, time.monotonic()
            time.sleep(0.1)
    assert seen - before < one * len(asked) / 2


def test_the_clients_own_distribution_rewrites_whole_and_piece_by_piece(desk: Desk) -> None:
    asked = Rewrite(approved=APPROVED[1], tone="formal", name="Jo")
    places = Places(grpc=desk.server.spec.url, timeout_s=_PATIENCE_S)
    with Client(MODEL, places) as client:
        told = client.rewrite(asked, further=True)
        assert told.let_through
        assert told.rewritten == told.answer
        assert "Jo" in told.answer
        several = client.rewrite_many([APPROVED[0], asked], keys=["ann", "kim"])
        assert (several[1].answer, several[1].rewritten) == (told.answer, None)
        *pieces, last = client.stream_rewrite(asked, key="ann")
    assert isinstance(last, Rewritten)
    assert last.answer == told.answer == "".join(piece.text for piece in pieces if isinstance(piece, Piece)).strip()

    async def ask() -> tuple[Rewritten, list[Piece | Rewritten], float]:
        async with AsyncClient(MODEL, places) as client:
            whole = await client.rewrite(asked)
            parts = [part async for part in client.stream_rewrite(asked)]
            desk.route(champion=2)
            before, reading = desk.figure("cancelled_total"), client.stream_rewrite(LONG)
            await anext(reading)
            await reading.aclose()
        return whole, parts, before

    whole, parts, before = asyncio.run(ask())
    assert whole.answer == told.answer
    assert [type(part) for part in parts[-2:]] == [Piece, Rewritten]
    assert getattr(parts[-1], "answer", "") == told.answer
    desk.waits_for("cancelled_total", before + 1)


@pytest.mark.parametrize("asked", [Rewrite(approved=" "), Rewrite(approved="x", tone="n" * 81)])
def test_a_mistake_of_the_caller_is_told_as_such(desk: Desk, asked: Rewrite) -> None:
    with pytest.raises(ClientError, match="row 0 has"):
        desk.stream(asked)


def test_versions_are_swapped_while_rewrites_are_written_and_none_fails(desk: Desk) -> None:
    answers, errors, stop = list[Rewritten](), list[BaseException](), threading.Event()

    def ask(number: int) -> None:
        while not stop.is_set():
            try:
                answers.append(desk.stream(Rewrite(approved=APPROVED[number], name="Jo"))[1])
            except ClientError as error:
                errors.append(error)

    callers = [threading.Thread(target=ask, args=(number,)) for number in range(2)]
    for caller in callers:
        caller.start()
    for champion in (2, 1, 2):
        seen = len(answers)
        desk.route(champion=champion)
        end = time.monotonic() + _PATIENCE_S
        while not any(answer.version == champion for answer in answers[seen:]):
            assert time.monotonic() < end
            time.sleep(0.02)
    stop.set()
    for caller in callers:
        caller.join()
    assert errors == []
    assert {answer.version for answer in answers} == {1, 2}
    assert all(answer.let_through == (answer.version == 1) for answer in answers)
