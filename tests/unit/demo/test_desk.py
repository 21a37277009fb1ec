"""The desks of the demonstration of customer service: what is asked, what is right, and how both change."""

from pathlib import Path

import pytest

from perennial.continual.errors import DataError
from perennial.ops.demo.answers import ANSWERS, CHANGED
from perennial.ops.demo.desk import Desk, desk_of
from perennial.ops.demo.grammar import FIRST_INTENTS, WAVES


def file_desk(folder: Path) -> Desk:
    lines = [f"where is the Golden card {n}?,Your Golden card {n} is at home.,topic{n % 3}" for n in range(120)]
    (folder / "replies.csv").write_text("\n".join(["question,reply,intent", *lines]))
    return desk_of(folder, 1)


def test_a_generated_desk_asks_anew_and_its_answers_change() -> None:
    desk = desk_of(None, 3)
    assert {reply.id for reply in desk.first.replies} == set(FIRST_INTENTS)
    known = {question.text.casefold() for question in desk.first.questions}
    first = [desk.draw() for _ in range(200)]
    assert not known & {asked.text.casefold() for asked in first}
    assert all(asked.right == ANSWERS[asked.intent] for asked in first)
    desk.change()
    assert {asked.intent for asked in (desk.draw() for _ in range(300))} & set(WAVES[0])
    desk.change()
    later = [desk.draw() for _ in range(600)]
    assert {asked.intent for asked in later} & set(WAVES[1])
    changed = [asked for asked in later if asked.intent in CHANGED]
    assert all((asked.right, asked.before) == (CHANGED[asked.intent], (ANSWERS[asked.intent],)) for asked in changed)


def test_a_desk_of_a_file_renames_products_and_rewrites_answers(tmp_path: Path) -> None:
    desk = file_desk(tmp_path)
    start = {reply.text for reply in desk.first.replies}
    assert len(start) == 84
    assert {desk.draw().right for _ in range(60)} <= start
    assert "Golden is now Zenith" in desk.change()
    renamed = [desk.draw() for _ in range(80)]
    assert all("Zenith card" in asked.text and "Golden" not in asked.right for asked in renamed)
    assert any(asked.before[0] not in start for asked in renamed), "questions come that no reply is known for"
    desk.change()
    assert any(asked.right.startswith("As of this month: ") for asked in (desk.draw() for _ in range(200)))


def test_what_a_change_brings_is_more_than_a_version_waits_for(tmp_path: Path) -> None:
    """What is asked again is no new label: a version that waited for more would never begin."""
    desk = file_desk(tmp_path)
    for _ in range(400):
        desk.draw()
    for _ in range(2):
        desk.change()
        asked = [desk.draw() for _ in range(desk.lived + 600)]
        late = [each for each in asked[desk.lived :] if each.first_time and len(each.before) > 0]
        assert len(late) >= desk.learns_after >= 3


def test_a_folder_without_questions_and_replies_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is no folder"):
        desk_of(tmp_path / "nothing", 1)
    (tmp_path / "replies.csv").write_text("question,reply,intent\nwhere?,Here.,place\n")
    with pytest.raises(DataError, match="a demonstration needs a hundred"):
        desk_of(tmp_path, 1)
