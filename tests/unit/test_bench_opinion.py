"""What the benchmark of events counts: headlines until one is found, and what knowing a story's word would find."""

import math

import numpy as np
import pytest

from benchmarks.opinion_events import Trial, found_of, knowing
from perennial.continual.events import EventSettings
from perennial.continual.events.burst import tail

SETTINGS = EventSettings(sources=1)


def test_knowing_a_word_counts_the_storys_headlines_against_how_often_the_word_comes() -> None:
    together, apart = np.array([100, 101, 102, 103]), np.array([100, 106, 112, 119])
    assert knowing(together, 0.02, SETTINGS) == pytest.approx(tail(3, 8, 0.02))
    assert knowing(apart, 0.02, SETTINGS) == pytest.approx(max(tail(1, 8, 0.02), tail(2, 14, 0.02), tail(3, 20, 0.02)))
    assert knowing(together, 0.5, SETTINGS) < -math.log(1 / 2_000) < knowing(together, 1e-4, SETTINGS)


def test_an_event_is_found_at_its_first_surprising_headline() -> None:
    early = Trial(word="flood", usual=0.001, scores=(0.0, 2.0, 15.0, 3.0, 3.0, 3.0), known=20.0)
    late = Trial(word="rates", usual=0.02, scores=(0.0, 2.0, 3.0, 3.0, 15.0, 3.0), known=6.0)
    never = Trial(word="rates", usual=0.02, scores=(0.0, 2.0, 3.0, 3.0, 4.0, 5.0), known=6.0)
    found = found_of(6, [early, early, late, never], 14.0)
    assert found["found_by_its_headline"] == [0.0, 0.0, 0.5, 0.5, 0.75, 0.75]
    assert (found["found_within_four"], found["found"], found["knowing_its_word"]) == (0.5, 0.75, 0.5)
    assert found["words"]["rates"] == {"share_of_all_headlines": 0.02, "found_within_four": 0.0}
