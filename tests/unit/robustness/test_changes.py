"""Changes of texts, and what they are counted to do."""

from collections.abc import Sequence

import numpy as np
import pytest

from perennial.continual.preparation import clean
from perennial.continual.robustness import CHANGES, changed_answers
from perennial.continual.robustness.changes import with_typos
from perennial.continual.robustness.names import CHANGE_NAMES
from perennial.continual.robustness.words import LOOK_ALIKES, SYNONYMS, TRADITIONAL

TEXT = "Why was my card payment declined at the store today?"


def test_settings_name_the_changes_that_there_are() -> None:
    assert tuple(CHANGES) == CHANGE_NAMES


@pytest.mark.parametrize("name", CHANGE_NAMES)
def test_a_change_changes_by_the_seed_alone_or_not_at_all(name: str) -> None:
    change = CHANGES[name]
    text = "这家餐厅的服务员态度非常好,价格实惠" if name == "traditional characters" else TEXT
    once, again = (change.of(text, np.random.default_rng(7)) for _ in range(2))
    assert once is not None
    assert once == again != text


def test_a_text_without_anything_to_change_is_left_out() -> None:
    rng = np.random.default_rng(0)
    assert {name for name, change in CHANGES.items() if change.of("7", rng) is not None} == {"emoji", "full width"}


def test_what_a_change_makes_reaches_the_model_unless_cleaning_takes_it_back() -> None:
    changed = {name: change.of(TEXT, np.random.default_rng(1)) for name, change in CHANGES.items()}
    kept = {name for name, new in changed.items() if new is not None and clean(new) != clean(TEXT)}
    assert kept >= {"typos", "upper case", "synonyms", "look-alikes", "emoji", "white space"}


@pytest.mark.parametrize("seed", range(20))
def test_a_slip_leaves_a_words_first_letter_and_other_words(seed: int) -> None:
    slipped = with_typos(TEXT, np.random.default_rng(seed))
    before, after = TEXT.split(), slipped.split()
    differing = [(old, new) for old, new in zip(before, after, strict=True) if old != new]
    assert len(before) == len(after)
    assert len(differing) <= 1
    assert all(old[0] == new[0] and abs(len(old) - len(new)) <= 1 for old, new in differing)


def test_texts_without_long_words_have_no_slip() -> None:
    assert CHANGES["typos"].of("an ox", np.random.default_rng(0)) is None
    assert sorted(with_typos("信用卡丢了", np.random.default_rng(0))) == sorted("信用卡丢了")


def test_lists_lead_to_other_words_and_characters() -> None:
    assert all(old != new for old, new in SYNONYMS.items())
    for table in (LOOK_ALIKES, TRADITIONAL):
        assert all(old != new for old, new in table.items())
    for simple, traditional in (("国", "國"), ("车", "車"), ("龟", "龜"), ("万", "萬"), ("头", "頭"), ("铁", "鐵")):
        assert simple.translate(TRADITIONAL) == traditional


def test_what_a_change_costs_is_counted_on_the_rows_that_it_changes() -> None:
    texts, labels = ["Pay now", "pay later", "7"], ["a", "a", "a"]

    def answers(asked: Sequence[str]) -> list[str]:
        return ["b" if text.isupper() else "a" for text in asked]

    upper, lower = changed_answers(
        texts, labels, answers, seed=0, changes=[CHANGES["upper case"], CHANGES["lower case"]]
    )
    assert (upper.rows, upper.before, upper.after, upper.lost.mean, upper.same.mean) == (2, 1.0, 0.0, 1.0, 0.0)
    assert (lower.rows, lower.after, lower.lost.mean, lower.same.mean) == (1, 1.0, 0.0, 1.0)
    assert lower.lost.low < 0.0 < lower.lost.high, "one row decides nothing"
