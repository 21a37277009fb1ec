"""Rewrites over HTTP: events while they are written, and errors before and after the first of them."""

import json
from collections.abc import AsyncGenerator

from fastapi import FastAPI
from fastapi.testclient import TestClient

from perennial.client.rewrites import Rewritten
from perennial.client.streams import Piece
from perennial.continual.errors import DependencyUnreachable
from perennial.continual.tasks.generation import Rewrite
from perennial.ops.api.auth import labeller
from perennial.ops.api.errors import translate_errors
from perennial.ops.api.routes.rewrites import add_rewrites

ANSWER = Rewritten(answer="Hi Jo!", let_through=True, why="", version=3, prediction_id="0" * 32)


class Writer:
    """Writes what it is given, and fails where it is to."""

    def __init__(self, *parts: Piece | Rewritten | Exception) -> None:
        self.parts, self.asked = parts, list[tuple[str, Rewrite, str | None]]()

    async def rewrite(self, model: str, asked: Rewrite, *, key: str | None) -> AsyncGenerator[Piece | Rewritten, None]:
        self.asked.append((model, asked, key))
        if isinstance(self.parts[0], Exception):
            raise self.parts[0]
        return self._all()

    async def _all(self) -> AsyncGenerator[Piece | Rewritten, None]:
        for part in self.parts:
            if isinstance(part, Exception):
                raise part
            yield part


def client(writer: Writer) -> TestClient:
    api = FastAPI()
    translate_errors(api, None)
    api.dependency_overrides[labeller] = lambda: None
    add_rewrites(api, writer)
    return TestClient(api, raise_server_exceptions=False)


def events(text: str) -> list[tuple[str, dict[str, object]]]:
    blocks = [block.splitlines() for block in text.strip().split("\n\n")]
    return [(name.removeprefix("event: "), json.loads(data.removeprefix("data: "))) for name, data in blocks]


def test_pieces_come_before_the_answer() -> None:
    writer = Writer(Piece(text="Hi 你", index=0), Piece(text=" Jo!", index=4), ANSWER)
    told = client(writer).post("/v1/models/tell/rewrites", json={"approved": "Hi!", "name": "Jo", "key": "c1"})
    assert told.status_code == 200
    assert told.headers["content-type"].startswith("text/event-stream")
    assert [name for name, _ in events(told.text)] == ["piece", "piece", "answer"]
    assert events(told.text)[0][1] == {"text": "Hi 你", "index": 0}
    assert events(told.text)[-1][1]["answer"] == "Hi Jo!"
    assert writer.asked == [("tell", Rewrite(approved="Hi!", name="Jo"), "c1")]


def test_what_fails_before_the_first_piece_has_a_status_and_later_an_event() -> None:
    gone = DependencyUnreachable("nobody answers")
    early = client(Writer(gone)).post("/v1/models/tell/rewrites", json={"approved": "Hi!"})
    assert early.status_code == 503
    late = client(Writer(Piece(text="Hi", index=0), gone)).post("/v1/models/tell/rewrites", json={"approved": "Hi!"})
    assert events(late.text)[-1] == ("error", {"message": "nobody answers"})


def test_a_wrong_body_is_refused() -> None:
    wrong = ({}, {"approved": ""}, {"approved": "Hi!", "tone": "n" * 81}, {"approved": "Hi!", "more": 1})
    writer = Writer(ANSWER)
    assert [client(writer).post("/v1/models/tell/rewrites", json=body).status_code for body in wrong] == [422] * 4
    assert writer.asked == []
