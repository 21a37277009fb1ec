"""The test at a rollout's limit: its level for every share of differing rows, and what few labels can tell by it."""

import time

import numpy as np
import pytest
from scipy.stats import binom

from perennial.continual.errors import DataError
from perennial.continual.rollout import (
    LiveEvidence,
    RolloutRules,
    Unlabelled,
    Verdict,
    critical_loss,
    critical_losses,
    judge_live,
)

LEVEL = RolloutRules().limit_level


def turned_away(came: int, disputed: int, differing: float, losing: float) -> float:
    """The chance of it, with a share of the rows that came differing and a share of those that differ lost."""
    rows = np.arange(came + 1)
    lost = binom.sf(critical_losses(came, disputed, LEVEL) - 1, disputed + rows, losing)
    return float(binom.pmf(rows, came, differing) @ lost)


@pytest.mark.parametrize(("came", "disputed"), [(1, 0), (7, 0), (30, 0), (90, 0), (360, 0), (0, 5), (0, 41), (60, 13)])
def test_equal_versions_are_turned_away_at_the_level_at_most_however_often_they_differ(came, disputed):
    worst = max(turned_away(came, disputed, share, 0.5) for share in np.geomspace(1e-4, 1.0, 700))
    assert worst <= LEVEL * 1.002  # between the shares at which the test was made


@pytest.mark.parametrize("came", [5_000, 100_000, 1_000_000])
def test_many_rows_of_which_few_differ_keep_the_level_and_cost_no_more_than_few_rows(came):
    rows = np.arange(301)
    began = time.process_time()
    limits = np.array([critical_loss(came, 0, LEVEL, differing=int(number)) for number in rows])
    assert time.process_time() - began < 10, "of one number of differing rows, as a verdict asks: under a second"
    lost = binom.sf(limits - 1, rows, 0.5)
    sizes = [float(binom.pmf(rows, came, share) @ lost) for share in np.geomspace(0.01, 150, 400) / came]
    assert max(sizes) <= LEVEL * 1.002
    assert max(sizes) > 0.094, "and spend it"


def test_the_limit_of_one_number_of_differing_rows_is_that_of_all_of_them():
    for came, disputed in ((400, 0), (400, 31), (0, 77), (1, 0)):
        limits = critical_losses(came, disputed, LEVEL)
        one_by_one = [critical_loss(came, disputed, LEVEL, differing=number) for number in range(came + 1)]
        assert limits.tolist() == one_by_one
    with pytest.raises(DataError, match="of 5 rows of which 6 differ"):
        critical_loss(5, 0, LEVEL, differing=6)


@pytest.mark.parametrize(
    ("came", "disputed", "differing", "points", "promoted"),
    [(30, 0, 0.20, 20, 0.05), (100, 0, 0.06, 5, 0.20), (360, 0, 0.06, 3, 0.15), (0, 100, 0.06, 5, 0.02)],
)
def test_what_is_worse_is_promoted_seldom_by_the_labels_there_are(came, disputed, differing, points, promoted):
    losing = (1 + points / 100 / differing) / 2
    assert 1 - turned_away(came, disputed, differing, losing) <= promoted


def test_the_level_is_spent_where_rows_come_and_kept_for_each_number_of_disputed_ones():
    assert turned_away(360, 0, 0.06, 0.5) > 0.094
    assert turned_away(0, 40, 1.0, 0.5) <= LEVEL


@pytest.mark.parametrize(("came", "disputed", "level"), [(-1, 0, 0.1), (0, -1, 0.1), (1, 1, 0.0), (1, 1, 0.5)])
def test_a_test_that_cannot_be_made_is_refused(came, disputed, level):
    with pytest.raises(DataError, match="limit test"):
        critical_losses(came, disputed, level)


SEEN = Unlabelled(compared=2_000, disagreed=120)


def disputed(gains: int, losses: int, *, came: tuple[int, int, int] = (0, 0, 0)) -> LiveEvidence:
    return LiveEvidence(
        gains=gains + came[0],
        losses=losses + came[1],
        ties=came[2],
        disputed_gains=gains,
        disputed_losses=losses,
        unlabelled=SEEN,
    )


def test_labels_asked_for_where_the_versions_disagree_tell_the_difference_over_all_traffic():
    """Of 6% of the rows, 40 were labelled: they stand for 667 rows."""
    assert disputed(10, 30).difference_points == pytest.approx(-3.0, abs=0.01)
    assert disputed(10, 30, came=(1, 2, 97)).difference_points == pytest.approx(-100 * 21 / 766, abs=0.02)
    assert judge_live(disputed(10, 30), RolloutRules(), at_limit=True).verdict is Verdict.WORSE
    assert "40 of them asked for" in judge_live(disputed(10, 30), RolloutRules(), at_limit=True).reasons[0]


def test_a_hundred_disputed_labels_pass_an_equal_challenger_and_none_that_is_worse_by_the_margin():
    assert judge_live(disputed(50, 50), RolloutRules()).verdict is Verdict.HOLDS
    assert judge_live(disputed(25, 75), RolloutRules()).verdict is Verdict.WORSE
    assert judge_live(disputed(15, 25), RolloutRules()).verdict is Verdict.UNDECIDED


def test_disputed_labels_pass_nobody_while_it_is_not_known_how_often_the_versions_disagree():
    unseen = LiveEvidence(gains=45, losses=55, disputed_gains=45, disputed_losses=55)
    assert judge_live(unseen, RolloutRules()).verdict is Verdict.UNDECIDED


def test_more_disputed_rows_than_rows_are_refused():
    with pytest.raises(DataError, match="count them in both"):
        LiveEvidence(gains=1, losses=1, disputed_losses=2)
