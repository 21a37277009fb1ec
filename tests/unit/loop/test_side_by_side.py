"""What a probation learns by asking both versions itself, and what it takes for a blip."""

from datetime import UTC, datetime, timedelta

import pytest

from continual.errors import DependencyUnreachable
from continual.rollout import LiveEvidence, RolloutRules, Verdict, judge_live
from ops.loop import side_by_side
from ops.loop.live_evidence import _lasting
from ops.loop.side_by_side import SideBySide, slow_ones

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


class Engines:
    """Two versions with a time each; a version in `broken` gives no answer. The clock is theirs."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **seconds: float) -> None:
        self.seconds, self.broken, self.now = seconds, set(), 0.0
        self.asked: list[int] = []
        monkeypatch.setattr(side_by_side.time, "perf_counter", lambda: self.now)

    def ask(self, version: int, text: str) -> None:
        self.asked.append(version)
        self.now += self.seconds[f"v{version}"]
        if version in self.broken:
            raise DependencyUnreachable(f"version {version} does not answer {text!r}")


def test_both_versions_are_asked_each_text_in_changing_order(monkeypatch):
    engines = Engines(monkeypatch, v1=1.0, v2=1.0)
    trial = SideBySide(engines.ask, old=1, new=2, seed=0)
    trial.look(["a"] * 40)
    assert engines.asked.count(1) == engines.asked.count(2) == 40
    assert 5 < sum(first == 1 for first in engines.asked[::2]) < 35


@pytest.mark.parametrize(("seconds", "verdict"), [(1.0, Verdict.UNDECIDED), (2.0, Verdict.WORSE)])
def test_a_slow_version_is_told_by_its_times(monkeypatch, seconds, verdict):
    engines = Engines(monkeypatch, v1=1.0, v2=seconds)
    trial = SideBySide(engines.ask, old=1, new=2, seed=0)
    trial.look(["a"] * 10)
    assert trial.slow(1.5) == (0, 0), "ten answers make no 95th percentile"
    trial.look(["a"] * 30)
    slow, timed = trial.slow(1.5)
    assert timed == 39, "an engine's first answer does not count"
    assert judge_live(LiveEvidence(slow=slow, timed=timed), RolloutRules()).verdict is verdict


def test_a_version_is_not_blamed_for_a_server_that_is_away(monkeypatch):
    engines = Engines(monkeypatch, v1=1.0, v2=1.0)
    trial = SideBySide(engines.ask, old=1, new=2, seed=0)
    engines.broken = {1, 2}
    trial.look(["a"] * 5)
    assert (trial.asked, trial.failed_at) == (0, [])
    engines.broken = {1}
    trial.look(["a"] * 5)
    assert (trial.asked, trial.failed_at) == (0, [])
    engines.broken = {2}
    trial.look(["a"] * 5)
    assert (trial.asked, len(trial.failed_at)) == (5, 5)


def test_failures_at_once_are_a_blip_and_failures_that_last_are_not():
    at_once = [NOON + timedelta(milliseconds=10 * n) for n in range(30)]
    assert _lasting(at_once, 60) == (1, 31)
    assert _lasting([], 60) == (0, 60)
    lasting = [NOON + timedelta(milliseconds=300 * n) for n in range(6)]
    assert _lasting(lasting, 60) == (6, 60)
    for failed, asked in (_lasting(at_once, 30), _lasting(lasting, 6)):
        decision = judge_live(LiveEvidence(failed=failed, asked=asked), RolloutRules())
        assert decision.verdict is (Verdict.WORSE if failed > 1 else Verdict.UNDECIDED)


def test_slowness_is_measured_by_the_older_versions_tail():
    old = [1.0] * 18 + [4.0] * 2
    assert slow_ones(old, [5.0, 7.0, 1.0], 1.5) == (1, 3)
