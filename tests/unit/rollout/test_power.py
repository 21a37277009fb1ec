"""What a rollout can see, told before it begins."""

import pytest

from perennial.continual.rollout import Power, RolloutRules, visible_points

RULES = RolloutRules()


def power(labels_per_hour: float) -> Power:
    return Power.of(labels_per_hour=labels_per_hour, disagreement=0.06, rules=RULES)


def test_more_labels_see_less_and_labels_of_disputes_see_least() -> None:
    seen = [visible_points(labels, 0.06, RULES) or 100.0 for labels in (100, 360, 900)]
    assert 5 > seen[0] > seen[1] > seen[2]
    assert (visible_points(100, 0.06, RULES, asked=True) or 100.0) <= seen[2]


def test_beyond_two_thousand_labels_it_goes_on_without_a_jump() -> None:
    before, after = (visible_points(labels, 0.3, RULES) or 0.0 for labels in (2_000, 2_001))
    assert 0 < after == pytest.approx(before, abs=0.2)


def test_too_few_labels_see_nothing_and_say_so() -> None:
    assert visible_points(0, 0.06, RULES) is None
    assert power(0.0).sentence == ("with about 0 labels an hour this can see no loss of 6 points or less in a day")
    assert "asked for where the versions disagree" in power(1.0).sentence


def test_a_loss_below_half_of_the_margin_is_a_draw_and_is_not_promised() -> None:
    assert visible_points(100_000, 0.06, RULES) == 1.5
    assert visible_points(100_000, 0.06, RolloutRules(margin_points=1.0)) == 0.5
