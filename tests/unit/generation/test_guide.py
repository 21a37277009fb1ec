"""A guide lets a decoder write only what the guard lets through, whatever the decoder would like to write."""

import random

import pytest

from benchmarks.generation_data import approved_replies
from perennial.continual.tasks.generation import check_rewrite
from perennial.continual.tasks.generation.guide import Guide


def written(guide: Guide, dice: random.Random) -> str:
    """What somebody writes who takes any next character that fits, and the shortest way where none of a few does."""
    text = ""
    while not (guide.done(text) and dice.random() < 0.5):
        near = guide.only(text) or guide.onward(text)
        drawn = [text + each for each in dice.sample("HDTWIPcy ,.!'", 5) if guide.fits(text + each)]
        if not near and not drawn:
            break
        text = dice.choice(drawn) if drawn and (not near or dice.random() < 0.5) else text + (near[:3] or "")
    return text


def test_whatever_is_written_by_a_guide_is_let_through() -> None:
    dice = random.Random(3)
    for reply in approved_replies(150, seed=5):
        name = dice.choice(("", "Maria"))
        text = written(Guide(reply, name=name, tone=dice.choice(("", "formal"))), dice)
        verdict = check_rewrite(reply, text, name=name)
        assert verdict.let_through, (reply, text, verdict.why)


@pytest.mark.parametrize(
    ("text", "fits"),
    [
        ("Hi Jo, you can't return", True),
        ("Hi Jo! You cannot", True),
        ("Hi Jo! You may", False),
        ("You cannot", False),  # a greeting was asked for
        ("Hello Jo, thank you", False),
        ("Hello Jo, Thank you for", True),
        ("Hi Ann,", False),
    ],
)
def test_a_beginning_fits_or_does_not(text: str, fits: bool) -> None:
    assert Guide("You cannot return it.", name="Jo").fits(text) is fits


def test_where_there_is_no_choice_the_guide_says_what_follows() -> None:
    guide = Guide("Send the form to help@a.example. We do not pay.")
    assert guide.only("Please send") == " the form to help@a.example. We"
    assert guide.only("Send the form to help@a.example. We do") == ""
    assert guide.only("Send the form to help@a.example. We don't pay.") == ""
    assert guide.done("Send the form to help@a.example. We don't pay.")
