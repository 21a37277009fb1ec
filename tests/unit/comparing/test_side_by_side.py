"""What a probation learns by asking both versions itself."""

import pytest

from perennial.continual.errors import DependencyUnreachable
from perennial.continual.rollout import LiveEvidence, RolloutRules, Verdict, judge_live
from perennial.ops.comparing import side_by_side
from perennial.ops.comparing.side_by_side import SideBySide, slow_ones


class Engines:
    """Two versions with a time each; a version in `broken` gives no answer. The clock is theirs."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **seconds: float) -> None:
        self.seconds, self.broken, self.now = seconds, set(), 0.0
        self.calls: list[int] = []
        monkeypatch.setattr(side_by_side.time, "perf_counter", lambda: self.now)

    def ask(self, version: int, text: str) -> None:
        self.calls.append(version)
        self.now += self.seconds[f"v{version}"]
        if version in self.broken:
            raise DependencyUnreachable(f"version {version} does not answer {text!r}")


def test_both_versions_are_asked_each_text_in_changing_order(monkeypatch):
    engines = Engines(monkeypatch, v1=1.0, v2=1.0)
    trial = SideBySide(engines.ask, old=1, new=2, seed=0)
    trial.look(["a"] * 40)
    assert engines.calls.count(1) == engines.calls.count(2) == 40
    assert 5 < sum(first == 1 for first in engines.calls[::2]) < 35


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
    for broken, failures, answered in (({1, 2}, 0, 0), ({1}, 0, 0), ({2}, 5, 0), (set(), 0, 5)):
        engines.broken = broken
        assert len(trial.look(["a"] * 5)) == failures
        assert trial.answered == answered


def test_slowness_is_measured_by_the_older_versions_tail():
    old = [1.0] * 18 + [4.0] * 2
    assert slow_ones(old, [5.0, 7.0, 1.0], 1.5) == (1, 3)
