"""What a client may write in a question for a list: it is refused with its place, or it can be answered and logged."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from perennial.continual.errors import DataError
from perennial.continual.learning.ranking import Event, Placed
from perennial.continual.preparation import admit_key
from perennial.exporters.ranking.asked import Asked
from perennial.ops.serving.tasks.ranking import SIDE, Listed
from perennial.ops.store.user_events import UserEvents
from perennial.ops.traffic.columns import to_batch
from tests.component.strange_texts import TEXTS

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
LIST = Listed((Placed(item="tea \u2028 \x00", score=1.0, reason="popular", propensity=1.0, explored=False),))


def tensors(**values: bytes) -> Mapping[str, Any]:
    return {"USER": np.array([[b"u7"]], dtype=object)} | {
        name: np.array([[value]], dtype=object) for name, value in values.items()
    }


def logged(asked: Asked) -> dict[str, Any]:
    """The question's row of the log, as the router writes it."""
    columns = {
        "prediction_id": [f"{1_760_000_000_000:012x}{'0' * 20}"],
        "at": [NOON],
        "key": [SIDE.caller(asked)],
        "version": [1],
        "arm": ["champion"],
        "latency_ms": [1.0],
        **SIDE.columns([asked], [LIST]),
    }
    return dict(to_batch(columns, None, "ranking").to_pylist()[0])


def is_a_name(field: str, text: str) -> bool:
    """By the rule of keys; only a user must have one."""
    try:
        return bool(admit_key(text)) or field != "USER"
    except DataError:
        return False


@pytest.mark.parametrize("text", [*TEXTS, "", " ", "\u200b\u3164", "\x00"], ids=lambda text: ascii(text)[:20])
@pytest.mark.parametrize("name", ["USER", "CONTEXT", "SEGMENT", "LANGUAGE", "CANDIDATES", "WITHHELD"])
def test_texts_of_all_the_world_are_refused_or_logged_and_read_again(name: str, text: str) -> None:
    value = json.dumps([text]) if name in {"CANDIDATES", "WITHHELD"} else text
    given = tensors(**{name: value.encode()})
    SIDE.sizes(given)
    if name not in {"CONTEXT", "CANDIDATES", "WITHHELD"} and not is_a_name(name, text):
        with pytest.raises(DataError, match=f"{name} of row 0"):
            SIDE.questions(given, max_characters=20_000)
        return
    (asked,) = SIDE.questions(given, max_characters=20_000)
    again = SIDE.logged_input(logged(asked))
    assert again is not None
    assert (again.user, again.segment, again.language) == (asked.user, asked.segment, asked.language)
    assert (again.candidates, again.withheld) == (asked.candidates, asked.withheld)


@pytest.mark.parametrize(
    "value",
    [
        b"[" * 100_000,
        b'["\\ud800"]',
        b"[NaN]",
        b'{"a": 1}',
        b'"tea"',
        b"[1" + b"0" * 5_000 + b"]",
        b"[" + b'"' + b"x" * 500_000 + b'"]',
        b"\xff",
    ],
    ids=lambda value: ascii(value[:12]),
)
@pytest.mark.parametrize("name", ["CANDIDATES", "WITHHELD"])
def test_a_list_that_is_none_is_refused_with_its_place(name: str, value: bytes) -> None:
    with pytest.raises(DataError, match=f"{name} of row 0"):
        SIDE.questions(tensors(**{name: value}), max_characters=20_000)


def test_a_live_question_knows_all_and_explores_and_a_replay_knows_what_came_before(tmp_path: Path) -> None:
    with UserEvents(tmp_path / "users.db") as kept:
        kept.add([Event(user="u7", item="tea", at=NOON), Event(user="u7", item="cup", at=NOON.replace(year=2999))])
    memory = SIDE.memory(tmp_path / "users.db")
    live, replay = memory.recalled([Asked(user="u7"), Asked(user="u7", at=NOON.replace(hour=13))])
    assert [event.item for event in live.known.events] == ["tea", "cup"]
    assert live.at is not None
    assert live.lottery is not None
    assert [event.item for event in replay.known.events] == ["tea"]
    assert replay.lottery is None
    assert memory.recalled([live]) == [live], "who is known already is not asked for again"
    assert memory.unread == 0


def test_two_routers_know_of_a_click_at_once_and_answer_alike(tmp_path: Path) -> None:
    """Each has the file open by itself, before it is written and while it is."""
    path = tmp_path / "users.db"
    with UserEvents(path) as kept:
        kept.add([Event(user="u7", item="tea", at=NOON)])
        routers = [SIDE.memory(path) for _ in range(2)]
        for number in range(20):
            kept.add([Event(user="u7", item=f"item {number}", at=NOON.replace(minute=number + 1))])
            known = [router.recalled([Asked(user="u7")])[0].known for router in routers]
            assert known[0] == known[1]
            assert known[0].events[-1].item == f"item {number}"
    assert [router.unread for router in routers] == [0, 0]
