"""Swapped names and wordings: what turns with the person is found, and what does not is not."""

from collections.abc import Sequence
from hashlib import sha256

import pytest

from perennial.continual.fairness.names import CHINESE_NAMES, DIALECTS, ENGLISH_NAMES
from perennial.continual.fairness.probes import probe_dialects, probe_names

TEXTS = [f"I lost my card number {n}" for n in range(40)]
LABELS = ["a"] * 40


def unfair(texts: Sequence[str]) -> list[str]:
    return ["b" if any(name in text for name in ENGLISH_NAMES["Black American"]) else "a" for text in texts]


def test_an_answer_that_turns_with_a_groups_names_is_found_and_no_other() -> None:
    found = {each.group: each for each in probe_names(TEXTS, LABELS, unfair, seed=0)}
    assert found.keys() == ENGLISH_NAMES.keys() - {"white American"}
    for group, each in found.items():
        assert (each.rows, each.floor) == (40, 0.0)
        turned = 1.0 if group == "Black American" else 0.0
        assert each.changed.mean == each.lost.mean == turned
        assert each.beyond is not None
        assert (each.beyond.decided, each.beyond.mean) == (int(turned), turned)


def test_what_any_other_name_changes_is_no_matter_of_a_group() -> None:
    def fickle(texts: Sequence[str]) -> list[str]:
        return [str(sha256(text.encode()).digest()[0] % 2) for text in texts]

    texts = [f"What is fee number {n}?" for n in range(300)]
    found = probe_names(texts, ["a"] * 300, fickle, seed=0)
    floors = [each.floor for each in found if each.floor is not None]
    assert len(floors) == len(found)
    assert all(0.3 < floor < 0.7 for floor in floors)
    assert sum(each.beyond is not None and each.beyond.decided != 0 for each in found) <= 1, "one of 20 by chance"


def test_a_name_in_the_text_is_replaced_and_chinese_texts_get_chinese_names() -> None:
    asked: list[str] = []

    def answers(texts: Sequence[str]) -> list[str]:
        asked.extend(texts)
        return ["a"] * len(texts)

    probe_names(["Emily paid twice", "我的卡丢了", "Jun's fee"], ["a"] * 3, answers, seed=1)
    english = [text for text in asked if text.isascii()]
    assert {text.split(" ", 1)[1] for text in english if "twice" in text} == {"paid twice"}
    assert not any("This is" in text and "twice" in text for text in english)
    chinese = [text for text in asked if not text.isascii()]
    assert {text.rpartition("。")[2] for text in chinese} == {"我的卡丢了"}
    every = {name for names in CHINESE_NAMES.values() for name in names}
    assert all(text.removeprefix("我叫").partition("。")[0] in every for text in chinese)


def test_only_texts_that_a_wording_changes_are_asked_about() -> None:
    texts = ["What colour is it?", "Colour it", "nothing here", "我们现在吃东西"]
    found = {each.group: each for each in probe_dialects(texts, ["a"] * 4, lambda some: ["a"] * len(some))}
    assert found["American spelling"].rows == 2
    assert found["Cantonese"].rows == 1
    assert "British spelling" not in found


def test_a_wording_keeps_the_capital_of_a_word() -> None:
    asked: list[str] = []

    def answers(texts: Sequence[str]) -> list[str]:
        asked.extend(texts)
        return ["a"] * len(texts)

    probe_dialects(["Please help"], ["a"], answers)
    assert "Kindly help" in asked


@pytest.mark.parametrize("text", ["REALİZE ETTİK", "pleaſe"])
def test_a_word_that_is_one_of_the_list_without_case_alone_stays(text: str) -> None:
    assert probe_dialects([text], ["a"], lambda texts: ["a"] * len(texts)) == ()


@pytest.mark.parametrize("lists", [ENGLISH_NAMES, CHINESE_NAMES], ids=["english", "chinese"])
def test_lists_of_names_are_as_long_and_hold_nobody_twice(lists: dict[str, tuple[str, ...]]) -> None:
    assert len({len(names) for names in lists.values()}) == 1
    several = [name for group, names in lists.items() if "other sex" not in group for name in names]
    assert len(several) == len(set(several))


def test_no_wording_replaces_a_word_by_itself_or_is_in_capitals() -> None:
    for words in DIALECTS.values():
        assert all(old != new and old == old.lower() for old, new in words.items())
