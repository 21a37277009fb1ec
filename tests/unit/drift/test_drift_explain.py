import json

import numpy as np

from perennial.continual.drift import DriftSettings, ReferenceProfile, Window, compare
from perennial.continual.drift.explain import explain, word_shifts
from tests.unit.drift.generated import TOPICS, traffic


def _explained(new: float, *, embeddings: bool = True) -> tuple[object, Window]:
    rng = np.random.default_rng(1)
    reference = ReferenceProfile.build(traffic(400, rng), version=1, rng=rng)
    window = traffic(300, rng, new=new)
    if not embeddings:
        window = Window(**{n: None if n == "embeddings" else getattr(window, n) for n in window.__slots__})
    comparison = compare(reference, window, DriftSettings(), rng)
    return explain(reference, window, comparison, rng), window


def test_an_unknown_topic_becomes_a_group_named_by_its_words() -> None:
    explanation, _ = _explained(0.3)
    group = explanation.groups[0]
    assert set(group.name.split("_")) <= set(TOPICS["mortgage"])
    assert 0.2 < group.share < 0.4
    assert group.name in explanation.summary
    assert all(set(text.split()) <= set(TOPICS["mortgage"]) for text in group.texts)


def test_words_that_rose_belong_to_the_new_topic() -> None:
    explanation, _ = _explained(0.3)
    assert {shift.word for shift in explanation.rose} <= set(TOPICS["mortgage"])
    assert all(shift.z < 0 for shift in explanation.fell)
    assert len(explanation.texts) == len(set(explanation.texts)) > 0
    assert json.dumps(explanation.to_json())


def test_a_clean_window_explains_itself_as_such() -> None:
    explanation, window = _explained(0.0)
    assert explanation.summary == f"nothing drifted in {len(window)} rows"
    assert sum(s.current_share for s in explanation.slices) == 1.0


def test_without_embeddings_the_least_confident_texts_are_shown() -> None:
    explanation, window = _explained(0.3, embeddings=False)
    assert explanation.groups == ()
    assert explanation.texts[0] == window.texts[window.confidences.argmin()]


def test_word_shifts_count_texts_and_not_repetitions() -> None:
    shifts = word_shifts(["a a a", "b"], ["a", "a"])
    assert [(s.word, s.reference_share, s.current_share) for s in shifts] == [("a", 0.5, 1.0), ("b", 0.5, 0.0)]
