"""What labelled rows tell before anything is learnt."""

import tracemalloc
from collections.abc import Sequence
from datetime import UTC, datetime

import pytest

from perennial.continual.preparation import split_of
from perennial.continual.quality import RowFindings, examine_rows
from perennial.continual.records import Example, Split

pytestmark = pytest.mark.slow

AT = datetime(2026, 1, 1, tzinfo=UTC)


def rows(label: str, count: int, text: str = "request") -> list[Example]:
    return [Example(text=f"{text} of {label} number {n}", label=label, at=AT) for n in range(count)]


def examine(*groups: Sequence[Example]) -> RowFindings:
    return examine_rows([row for group in groups for row in group], min_class_rows=5, holdout_share=0.1)


@pytest.mark.parametrize(
    ("rarer", "other", "named"),
    [
        ("lost crad", "lost card", True),
        ("lost_card", "Lost card", True),
        ("lost-cards", "lost_card", True),
        ("退款申请失败", "退款申请失", True),
        ("positive", "negative", False),
        ("class_0001", "class_0002", False),
        ("C", "C#", False),
        ("fee", "fees", False),  # too short to tell a slip
    ],
)
def test_labels_that_look_like_slips_are_named(rarer: str, other: str, named: bool) -> None:
    found = examine(rows(rarer, 3), rows(other, 40))
    assert [(twins.label, twins.rows, twins.like, twins.like_rows) for twins in found.twins] == (
        [(rarer, 3, other, 40)] if named else []
    )


def test_two_large_classes_of_similar_names_are_meant() -> None:
    assert examine(rows("debit card", 30), rows("debit cards", 30)).twins == ()


def test_hundreds_of_numbered_classes_are_examined_in_no_time() -> None:
    found = examine(*(rows(f"class_{n:04}", 2) for n in range(2_000)))
    assert found.too_small_count == 2_000
    assert len(found.too_small) == 20
    assert found.twins == ()


def test_small_classes_are_counted_before_the_hold_out() -> None:
    five, four = rows("five", 5), rows("four", 4)
    found = examine(five, [*four, four[0]], rows("many", 50))
    assert [(each.label, each.rows) for each in found.too_small] == [("four", 4)]
    assert (found.rows, found.different, found.labels) == (60, 59, 3)


def test_one_text_with_two_labels_is_a_contradiction() -> None:
    found = examine(rows("a", 20), [Example(text="Same  text", label=label, at=AT) for label in ("a", "b")])
    assert found.contradiction_count == 1
    assert (found.contradictions[0].kept, found.contradictions[0].dropped) == ("b", ("a",))


def test_held_out_rows_that_repeat_a_training_row_are_leaks() -> None:
    texts = [f"where is my order {n}?" for n in range(200)]
    held = next(text for text in texts if split_of(text) is Split.HOLDOUT)
    twin = next(made for n in range(1, 200) if split_of(made := held.replace("?", "!" * n)) is Split.TRAIN)
    found = examine([Example(text=text, label="a", at=AT) for text in (held, twin, "something else")])
    assert (found.leak_count, found.leaks[0].held_out, found.leaks[0].train) == (1, held, twin)


@pytest.mark.parametrize(
    ("text", "script"),
    [
        ("卡丢了", "Han"),
        ("где моя карта", "Cyrillic"),
        ("أين بطاقتي", "Arabic"),
        ("कार्ड कहाँ है", "Devanagari"),
        ("où", "Latin"),
    ],
)
def test_the_script_is_told(text: str, script: str) -> None:
    assert examine([Example(text=text, label="a", at=AT)]).scripts == {script: 1.0}


def test_letterless_rows_have_no_script() -> None:
    assert examine([Example(text="🙂 12", label="a", at=AT)]).scripts == {}


def test_very_many_labels_are_examined_without_much_memory() -> None:
    long = [Example(text=f"request {n}", label=f"{n}{' long name' * 15}", at=AT) for n in range(3_000)]
    twin = Example(text="one more", label=f"7{'_LONG-NAME' * 15}", at=AT)
    tracemalloc.start()
    found = examine(long, [twin])
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found.labels == 3_001
    assert [{twins.label, twins.like} for twins in found.twins] == [{long[7].label, twin.label}]
    assert most < 40 << 20
