"""What counts as one failure: of a challenger that is left alone after each, and of a champion that is not."""

import numpy as np
import pytest

from perennial.continual.errors import DependencyUnreachable
from perennial.continual.rollout import LiveEvidence, RolloutRules, Verdict, judge_live
from perennial.ops.comparing.request_counts import Episodes, LastingFailures
from perennial.ops.serving.router.version_guard import VersionGuard

PAUSE_S = 7.0


class Routers:
    """Two router processes, each with its guard, that send requests to a challenger in turns."""

    def __init__(self, fails: float, *, seed: int = 0) -> None:
        self.now = 0.0
        self._guards = [
            VersionGuard(limit_s=1.0, pause_s=5.0, hang_pause_s=5.0, clock=lambda: self.now) for _ in range(2)
        ]
        self._rng, self.fails = np.random.default_rng(seed), fails
        self.failures, self.answered, self.fallbacks = Episodes(pause_s=PAUSE_S), 0, 0

    def ask(self, requests: int, a_second: float) -> None:
        for _ in range(requests):
            self.now += 1.0 / a_second
            try:
                self._guards[int(self._rng.integers(2))].ask(2, self._answer)
                self.answered += 1
            except DependencyUnreachable:
                self.fallbacks += 1
                self.failures.add(self.now)

    def _answer(self) -> None:
        if self._rng.random() < self.fails:
            raise DependencyUnreachable("this text is too much for it")

    @property
    def worse(self) -> bool:
        failed = self.failures.count
        evidence = LiveEvidence(asked=self.answered + failed, failed=failed)
        return judge_live(evidence, RolloutRules()).verdict is Verdict.WORSE


@pytest.mark.parametrize("before", [0, 5, 300])
def test_one_hiccup_of_a_challenger_turns_nobody_away(before):
    routers = Routers(0.0)
    routers.ask(before, 25.0)
    routers.fails = 1.0
    routers.ask(10, 25.0)
    routers.fails = 0.0
    routers.ask(300, 25.0)
    assert routers.fallbacks > 50
    assert routers.failures.count == 1
    assert not routers.worse


@pytest.mark.parametrize(("fails", "within_s"), [(1.0, 9.5), (1 / 3, 45.0), (0.1, 150.0)])
@pytest.mark.parametrize("a_second", [1.0, 5.0, 25.0])
def test_a_challenger_that_goes_on_failing_is_refused_after_a_few_pauses(fails, within_s, a_second):
    routers = Routers(fails)
    while not routers.worse:
        routers.ask(1, a_second)
        assert routers.now < within_s, f"{routers.failures.count} of {routers.answered} after {within_s} s"


@pytest.mark.slow
def test_a_challenger_that_fails_as_seldom_as_it_may_is_not_refused():
    for seed in range(20):
        routers = Routers(0.004, seed=seed)
        routers.ask(2_000, 20.0)
        assert not routers.worse, f"{routers.failures.count} of {routers.answered}"


def test_a_failure_that_comes_up_late_belongs_to_the_pause_that_it_began():
    failures = Episodes(pause_s=PAUSE_S)
    for second in (100.0, 96.0, 103.0, 120.0, 101.0, 118.5):
        failures.add(second)
    assert failures.count == 2
    failures.add(110.0)
    assert failures.count == 3


def test_a_champions_failures_at_once_are_a_blip_and_failures_that_last_are_not():
    at_once, lasting, none = LastingFailures(), LastingFailures(), LastingFailures()
    for n in range(30):
        at_once.add(0.01 * n)
    for n in range(6):
        lasting.add(0.3 * n)
    assert (at_once.count, lasting.count, none.count) == (1, 6, 0)
    for failures, answered, verdict in ((at_once, 30, Verdict.UNDECIDED), (lasting, 54, Verdict.WORSE)):
        evidence = LiveEvidence(failed=failures.count, asked=answered + failures.count)
        assert judge_live(evidence, RolloutRules()).verdict is verdict
