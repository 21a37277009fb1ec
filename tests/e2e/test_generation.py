"""Rewrites as their users meet them: streamed all the time, edited over the API, and a new version unattended."""

import csv
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import cycle
from typing import Any

import httpx
import pytest

from benchmarks.generation_check import changed_facts
from perennial import client
from tests.component.generation_fixtures import write_decoder
from tests.e2e.workspace import SERVED_TOML, E2eWorkspace, wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]
HERE = ("--model", "tell")
_EDITS, _PAUSE_S = 60, 0.1
_TOML = (
    SERVED_TOML
    + """[traffic]
rotate_s = 0.5
[models.tell]
task = "generation"
[models.tell.learning]
threads = 1
niceness = 0
replay_rows = 60
holdout_share = 0.3
[models.tell.learning.params]
decoder = "{decoder}"
epochs = 2
rate = 0.1
[models.tell.cycle]
probation_s = 1.0
min_fresh_rows = 5
min_gain_points = -50.0
max_forgetting_points = 100.0
[models.tell.policy]
kind = "feedback_count"
at_least = 30
limits = {{ cooldown_s = 1.0, min_feedback = 5 }}
"""
)


def _reply(number: int) -> str:
    return f"It takes {number} days. You cannot pay by card. See https://pay.example/{number}."


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[E2eWorkspace]:
    """Version 1 is a random decoder that has seen two replies as they are, and is served."""
    folder = tmp_path_factory.mktemp("tell")
    made = E2eWorkspace.written(folder, _TOML, decoder=write_decoder(folder / "decoder"))
    with (folder / "replies.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("approved",), (_reply(2),), (_reply(3),)])
    report = made.here("init", "tell", "--data", str(folder / "replies.csv"))
    assert (report["version"], report["replies"], report["edited"]) == (1, 2, 0)
    with made.serving():
        yield made


class _Readers:
    """People who never stop asking for rewrites, by gRPC and by server-sent events; one of them edits each answer."""

    def __init__(self, place: E2eWorkspace) -> None:
        self._api, self._stop = f"http://127.0.0.1:{place.api}", threading.Event()
        self._numbers = cycle(range(100, 1_000))
        self._places = client.Places(grpc=f"127.0.0.1:{place.grpc}", api=self._api)
        self.answers, self.failed = list[tuple[str, client.Rewritten]](), list[str]()
        self.edited = 0

    def by_grpc(self) -> None:
        with client.Client("tell", self._places) as asking:
            while not self._stop.wait(_PAUSE_S):
                approved = _reply(next(self._numbers))
                try:
                    *pieces, answer = asking.stream_rewrite(client.Rewrite(approved=approved, tone="warm", name="Jo"))
                    self._note(approved, pieces, answer)
                    if self.edited < _EDITS and isinstance(answer, client.Rewritten):
                        sent = f"Hi Jo, {approved} Have a great day!"
                        edit = client.Edit(prediction_id=answer.prediction_id, accepted=sent, name="Jo")
                        self.edited += asking.edits([edit]).new
                except client.ClientError as error:
                    self.failed.append(str(error))

    def by_events(self) -> None:
        with httpx.Client(base_url=self._api, headers={"X-Perennial-Request": "1"}, timeout=60) as asking:
            while not self._stop.wait(_PAUSE_S):
                approved = _reply(next(self._numbers))
                body = {"approved": approved, "tone": "warm", "name": "Jo"}
                try:
                    with asking.stream("POST", "/v1/models/tell/rewrites", json=body) as coming:
                        told = "".join(coming.iter_text())
                    coming.raise_for_status()
                    made = [_part(block) for block in told.strip().split("\n\n")]
                    self._note(approved, made[:-1], made[-1])
                except httpx.HTTPStatusError:
                    self.failed.append(f"{coming.status_code} {told}")
                except (httpx.HTTPError, ValueError) as error:
                    self.failed.append(repr(error))

    def _note(self, approved: str, pieces: list[Any], answer: Any) -> None:
        """A whole stream: pieces one after the other, then the answer."""
        if not isinstance(answer, client.Rewritten) or not all(isinstance(each, client.Piece) for each in pieces):
            self.failed.append(f"{pieces} {answer}")
            return
        began = max((place for place, each in enumerate(pieces) if each.index == 0), default=0)
        written = "".join(each.text for each in pieces[began:]).strip()
        if not pieces or (answer.let_through and written != answer.answer):
            self.failed.append(f"{written!r} is not {answer.answer!r}")
        self.answers.append((approved, answer))

    @contextmanager
    def reading(self) -> Iterator["_Readers"]:
        work: list[Callable[[], None]] = [self.by_grpc, self.by_events]
        threads = [threading.Thread(target=each) for each in work]
        for thread in threads:
            thread.start()
        try:
            yield self
        finally:
            self._stop.set()
            for thread in threads:
                thread.join()


def _part(block: str) -> client.Piece | client.Rewritten:
    """One event of the stream.

    Raises:
        ValueError: it is an error, or none.
    """
    name, data = block.splitlines()
    fields = json.loads(data.removeprefix("data: "))
    if name == "event: piece":
        return client.Piece(**fields)
    if name == "event: answer":
        return client.Rewritten(**fields)
    raise ValueError(block)


def _model(place: E2eWorkspace) -> Any:
    answer = httpx.get(f"http://127.0.0.1:{place.api}/v1/models/tell", timeout=20)
    answer.raise_for_status()
    return answer.json()


def test_accepted_edits_bring_a_version_unattended_while_rewrites_are_streamed(place: E2eWorkspace) -> None:
    """The decoder is random, so that nobody asks whether it learnt a taste: its gate looks for harm alone."""
    with _Readers(place).reading() as readers:
        wait_for(lambda: readers.edited >= _EDITS or bool(readers.failed), 240, "edits")
        wait_for(lambda: bool(readers.failed) or readers.answers[-1][1].version > 1, 600, "a new version to answer")
        seen = len(readers.answers)
        wait_for(lambda: len(readers.answers) > seen + 10 or bool(readers.failed), 60, "more answers")
    assert readers.failed == []
    wrong = {approved: found for approved, answer in readers.answers if (found := _changes(approved, answer))}
    assert wrong == {}
    assert {answer.version for _, answer in readers.answers} >= {1, 2}
    wait_for(lambda: _model(place)["cycle"] is None, 240, "the end of probation")
    versions = {row["version"]: row for row in place.here("model", "list", *HERE, "--json")}
    champion = versions[_model(place)["champion"]]
    assert champion["version"] > 1
    assert "feedback_count" in champion["lineage"]["reason"]


def _changes(approved: str, answer: client.Rewritten) -> list[str]:
    return changed_facts(approved, answer.answer, "Jo")
