"""What a decoder's engine remembers of the texts that it wrote, and for how long."""

from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest

from perennial.exporters.generation.codec import Codec, numbers
from perennial.exporters.generation.decoding import DecodingEngine, Floats, Ids, Past
from perennial.exporters.generation.signature import APPROVED, GREETED, MANNER, PROMPT, STEPS, TOKENS, WRITTEN

ONE, OTHER = [1, *range(10, 19)], [2, *range(10, 19)]
BOUND = 3_500  # bytes


class Steps:
    """Always thinks the last token of its vocabulary the likeliest, and counts the tokens of each step."""

    nothing = Past(arrays=(np.zeros((1, 1, 0, 2), dtype=np.float32),) * 2)

    def __init__(self, vocabulary: int) -> None:
        self.vocabulary, self.asked = vocabulary, list[int]()

    def step(self, ids: Ids, past: Past) -> tuple[Floats, Past]:
        self.asked.append(len(ids))
        new = np.ones((1, 1, len(ids), 2), dtype=np.float32)
        grown = tuple(np.concatenate([array, new], axis=2) for array in past.arrays)
        return np.arange(self.vocabulary, dtype=np.float32), Past(arrays=grown)


def engine_of(steps: Steps) -> DecodingEngine:
    codec = SimpleNamespace(prompt=SimpleNamespace(ends=()), part=SimpleNamespace(positions=10_000))
    return DecodingEngine(steps, cast("Codec", codec))


def write(engine: DecodingEngine, prompt: list[int], written: list[int], steps: int) -> list[int]:
    """What follows; no guide."""
    nothing = numbers([[]])
    rows = {PROMPT: numbers([prompt]), WRITTEN: numbers([written]), STEPS: np.array([[steps]], dtype=np.int64)}
    made = engine.infer({**rows, APPROVED: nothing, GREETED: nothing, MANNER: nothing})[TOKENS][0]
    return [int(token) - 1 for token in made if token > 0]


@pytest.fixture(autouse=True)
def _little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("perennial.exporters.generation.decoding._REMEMBERED_BYTES", BOUND)


def test_a_long_text_that_is_written_call_by_call_pushes_out_no_other_prompt() -> None:
    steps = Steps(vocabulary=32)
    engine, written = engine_of(steps), list[int]()
    write(engine, OTHER, [], 1)
    for _ in range(10):
        written += write(engine, ONE, written, 4)
    assert written == [31] * 40
    assert sum(steps.asked) == len(OTHER) + 1 + len(ONE) + 40, "nothing is worked out twice"
    write(engine, OTHER, [], 1)
    assert steps.asked[-2:] == [1, 1], "its prompt was known"


def test_the_logits_of_a_large_vocabulary_count_as_memory_too() -> None:
    steps = Steps(vocabulary=BOUND)
    engine = engine_of(steps)
    for prompt in (ONE, OTHER, ONE):
        write(engine, prompt, [], 1)
    assert steps.asked == [10, 1] * 3, "two do not fit"
