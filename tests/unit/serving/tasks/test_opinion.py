"""Opinion at the router: each symbol has its own clauses read, and what is remembered costs no answer."""

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from perennial.continual.events import EventSettings, WatchPlan
from perennial.continual.tasks.opinion import Headline, Symbol
from perennial.exporters.runtime import load_engine
from perennial.ops.serving.port import Given
from perennial.ops.serving.tasks.opinion import SIDE, Opined
from perennial.ops.store.headlines import Headlines
from tests.component.triton_fixtures import write_bundle

NOON = datetime(2026, 1, 30, 12, tzinfo=UTC)
CARD, MONEY = Symbol(name="CARD", names=("card",)), Symbol(name="MNY", names=("money",))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundle(tmp_path_factory.mktemp("bundles") / "1", 1, task="opinion")


def answered(bundle: Path, inputs: list[str | Headline]) -> list[Opined]:
    version = SIDE.open(bundle)
    rows = version.encode(inputs)
    return version.answers(inputs, rows, load_engine(bundle, threads=1).infer(rows))


def test_each_symbol_is_answered_by_its_own_clause_in_one_call(bundle: Path) -> None:
    told = Headline(text="card lost, hello money transfer", symbols=(CARD, MONEY))
    other, several, bare = answered(bundle, [Headline(text="hello", symbols=(CARD,)), told, "money"])
    assert [(one.symbol, one.label) for one in several.opinions] == [("CARD", "card_issue"), ("MNY", "money_issue")]
    assert several.opinions[0].confidence > several.said.confidence
    assert (other.opinions[0].label, other.opinions[0].confidence) == (other.said.label, other.said.confidence)
    assert bare.opinions == ()
    (received,) = SIDE.received(
        dict(SIDE.tensors([several], frozenset({"LABEL", "CONFIDENCE", "EVENT", "PHASE", "ALERT", "OPINIONS"})))
        | {"VERSION": np.array([[1]]), "PREDICTION_ID": np.array([[b"p"]], dtype=object)}
    )
    assert received.opinions is not None
    assert [one.symbol for one in received.opinions] == ["CARD", "MNY"]


def given(bundle: Path, texts: list[str], start: int = 0) -> list[Given]:
    headlines = [Headline(text=text, source=f"wire {place % 3}") for place, text in enumerate(texts)]
    answers = answered(bundle, list(headlines))
    return [
        Given(asked, "desk", f"{start + place:032x}", NOON, answer)
        for place, (asked, answer) in enumerate(zip(headlines, answers, strict=True))
    ]


def test_headlines_that_cannot_be_noted_are_noted_with_the_next(bundle: Path, tmp_path: Path) -> None:
    path = tmp_path / "news.db"
    Headlines(path).configure(WatchPlan(events=EventSettings(sources=1)))
    memory = SIDE.memory(path)
    first = given(bundle, ["card lost one", "money two"])
    path.chmod(0o400)
    path.rename(tmp_path / "away.db")
    path.mkdir()  # nothing can be written there
    assert [one.kept for one in memory.noted(first)] == [one.answer.kept for one in first]
    assert memory.unread == 2
    path.rmdir()
    (tmp_path / "away.db").rename(path)
    path.chmod(0o600)
    assert len(memory.noted(given(bundle, ["hello three"], start=2))) == 1
    kept = Headlines(path).items(last=10)
    assert [sorted(item.tokens)[-1] for item in kept] == ["one", "two", "three"]
    assert kept[0].encoder == "tiny"
    assert memory.noted([]) == []
