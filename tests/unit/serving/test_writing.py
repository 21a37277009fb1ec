"""Answers that are written: in calls that are as short as the engine is slow, and given up between two of them."""

from types import SimpleNamespace

import numpy as np
import pytest

from perennial.exporters.engine import Inputs, Outputs
from perennial.exporters.generation.codec import numbers
from perennial.ops.serving import writing
from perennial.ops.serving.writing import write


class Engine:
    """Counts up, a token a second of its own clock."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, token_s: float, end: int = 1_000) -> None:
        self.now, self.token_s, self.end, self.steps = 0.0, token_s, end, list[int]()
        monkeypatch.setattr(writing, "time", SimpleNamespace(monotonic=lambda: self.now))

    def __call__(self, inputs: Inputs) -> Outputs:
        start, steps = int((inputs["written"] > 0).sum()), int(inputs["steps"][0, 0])
        self.steps.append(steps)
        self.now += steps * self.token_s
        tokens = list(range(start, min(start + steps, self.end)))
        return {"tokens": numbers([tokens]), "logits": np.full((1, 16), float(start), dtype=np.float32)}


def row(steps: int) -> Inputs:
    return {"prompt": numbers([[1, 2]]), "steps": np.array([[steps]], dtype=np.int64)}


@pytest.mark.parametrize(
    ("token_s", "calls"), [(0.01, [4, 16, 16, 4]), (0.25, [4, 4, 4, 4, 4, 4, 4, 4, 4, 4]), (30.0, [4, *[1] * 36])]
)
def test_a_slow_engine_is_asked_for_few_tokens_at_once(
    monkeypatch: pytest.MonkeyPatch, token_s: float, calls: list[int]
) -> None:
    engine = Engine(monkeypatch, token_s=token_s)
    outputs = write(engine, row(40), first=4, most=16, goes_on=lambda: True)
    assert engine.steps == calls
    assert (outputs["tokens"][0] - 1).tolist() == list(range(40))
    assert not outputs["logits"].any(), "those of the first token"


def test_it_ends_where_the_engine_does_and_tells_all_so_far(monkeypatch: pytest.MonkeyPatch) -> None:
    engine, told = Engine(monkeypatch, token_s=0.0, end=6), list[tuple[int, int]]()
    write(engine, row(40), first=1, most=4, goes_on=lambda: True, wrote=lambda all_, new: told.append((len(all_), new)))
    assert told == [(1, 1), (5, 4), (6, 1)]


def test_what_is_given_up_keeps_what_was_written(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine(monkeypatch, token_s=0.0)
    outputs = write(engine, row(40), first=4, most=4, goes_on=lambda: len(engine.steps) < 2)
    assert (engine.steps, (outputs["tokens"] > 0).sum()) == ([4, 4], 8)
    nothing = write(engine, row(40), first=4, most=4, goes_on=lambda: False)
    assert (len(engine.steps), (nothing["tokens"] > 0).sum(), nothing["logits"].shape) == (2, 0, (1, 16))


def test_a_row_that_may_not_be_written_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine(monkeypatch, token_s=0.0)
    assert not (write(engine, row(0), first=4, most=4, goes_on=lambda: True)["tokens"] > 0).any()
    assert engine.steps == [0]
