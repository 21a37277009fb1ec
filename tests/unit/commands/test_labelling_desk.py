"""Who labels what: no two people the same text, skipping, going back, and texts that nobody finishes."""

import random

from perennial.ops.commands.labelling_desk import Handouts


def test_no_two_seats_have_the_same_text_in_hand() -> None:
    handouts, waiting, rng = Handouts(), [f"t{n}" for n in range(30)], random.Random(0)
    labelled: list[str] = []
    in_hand: dict[str, str | None] = {}
    for _ in range(400):
        seat = f"s{rng.randrange(5)}"
        name = handouts.next(seat, [text for text in waiting if text not in labelled])
        others = {held for other, held in in_hand.items() if other != seat and held is not None}
        assert name is None or name not in others
        in_hand[seat] = name
        if name is not None and rng.random() < 0.3:
            labelled.append(name)
            handouts.done(seat, name, "label")
            in_hand[seat] = None
        elif name is not None and rng.random() < 0.2:
            handouts.skip(seat, name)
            in_hand[seat] = None
    assert len(labelled) == len(set(labelled)) > 10


def test_a_text_that_nobody_finishes_goes_to_another() -> None:
    handouts = Handouts(held_s=0.0)
    assert handouts.next("one", ["a"]) == handouts.next("two", ["a"]) == "a"


def test_what_was_skipped_comes_back_when_it_is_asked_for() -> None:
    handouts = Handouts()
    for name in ("a", "b"):
        assert handouts.next("one", ["a", "b"]) == name
        handouts.skip("one", name)
    assert handouts.next("one", ["a", "b"]) is None
    handouts.again("one")
    assert handouts.next("one", ["a", "b"]) == "a"


def test_one_goes_back_step_by_step() -> None:
    handouts = Handouts()
    for name, label in (("a", "x"), ("b", "y"), ("a", "y")):
        handouts.done("one", name, label)
    assert [handouts.last("one") for _ in range(3)] == ["a", "b", None]
    assert handouts.recent("one") == ("y", "x")
    assert handouts.last("two") is None


def test_a_thousand_seats_are_remembered_and_no_more() -> None:
    handouts = Handouts()
    handouts.done("first", "a", "x")
    for number in range(1_000):
        handouts.recent(f"seat {number}")
    assert handouts.recent("first") == ()
