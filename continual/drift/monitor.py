"""From single comparisons to an alert: votes over windows, hysteresis and cooldown, as a pure state machine.

ok -> warning (a drifted window) -> alert (2 of 3, or 3 of 5) -> cooldown -> ok (released), or warning again
Requests that became new alert at once: that evidence is of many windows.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Any, Self

from perennial.continual.drift.compare import DriftComparison
from perennial.continual.drift.settings import DriftSettings, Signal
from perennial.continual.errors import DataError

__all__ = ["DriftMonitor", "DriftSignal", "Level", "MonitorState"]


class Level(StrEnum):
    """How worried the monitor is."""

    OK = "ok"
    WARNING = "warning"
    ALERT = "alert"
    COOLDOWN = "cooldown"


@dataclass(frozen=True, slots=True, kw_only=True)
class MonitorState:
    """What the monitor remembers of one version's windows.

    `recent` are the last windows' votes, oldest first, and `recent_mix` those for another mix of answers; `mix_told` is
    true while such a mix lasts that was told; `silence_told` likewise while feedback is missing. `episode` counts the
    alerts that a release lies between: repeated alerts of one lasting drift share a number.

    >>> MonitorState.from_json(MonitorState(version=3).to_json()) == MonitorState(version=3)
    True
    """

    version: int
    level: Level = Level.OK
    recent: tuple[bool, ...] = ()
    episode: int = 0
    in_episode: bool = False
    windows: int = 0
    last_request: int = 0
    cooldown_until: int = 0
    recent_mix: tuple[bool, ...] = ()
    mix_told: bool = False
    silence_told: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {**asdict(self), "recent": list(self.recent), "recent_mix": list(self.recent_mix)}

    @classmethod
    def from_json(cls, facts: Mapping[str, Any]) -> Self:
        """Return the state that `to_json` wrote."""
        votes = {name: tuple(facts.get(name, ())) for name in ("recent", "recent_mix")}
        return cls(**{**facts, "level": Level(facts["level"]), **votes})


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftSignal:
    """What one window changed. `alert` is true once an alert, at the window that completes the votes.

    `mix` is true likewise for another mix of the same answers, where that is told and no drift; `silence` at the first
    window for which feedback is missing.
    """

    level: Level
    previous: Level
    alert: bool
    episode: int
    at_request: int
    votes: int
    signals: tuple[Signal, ...]
    reason: str
    mix: bool = False
    silence: bool = False

    @property
    def changed(self) -> bool:
        """Whether the level changed with this window."""
        return self.level is not self.previous

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {**asdict(self), "signals": [signal.value for signal in self.signals], "changed": self.changed}


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftMonitor:
    """The voting rule. Holds settings only; the state goes in and comes out of `update`.

    >>> monitor = DriftMonitor(settings=DriftSettings())
    >>> quiet = DriftComparison(version=3, n_reference=600, n_current=300, alpha=0.02, permutations=999, seed=1,
    ...                         signals=())
    >>> state, signal = monitor.update(monitor.start(3), quiet, now_request=300)
    >>> state.level.value, signal.alert
    ('ok', False)
    """

    settings: DriftSettings

    def start(self, version: int, *, now_request: int = 0, episode: int = 0) -> MonitorState:
        """Return the state of a version that has answered nothing yet; pass the old `episode` to go on counting."""
        return MonitorState(version=version, last_request=now_request, episode=episode)

    def update(
        self, state: MonitorState, comparison: DriftComparison, now_request: int
    ) -> tuple[MonitorState, DriftSignal]:
        """Return the state after a window, and what it changed.

        `now_request` counts the model's answered requests up to the window's end.

        Raises:
            DataError: the window overlaps the one before it, or belongs to another version. Windows must not overlap:
                the arithmetic behind the level counts each request once.
        """
        self._check(state, comparison, now_request)
        votes = self.settings.votes
        recent = (*state.recent, comparison.drifted)[-votes.among :]
        released = comparison.released(self.settings)
        seen = replace(
            self._mixed(state, comparison), recent=recent, windows=state.windows + 1, last_request=now_request
        )
        if state.level in (Level.ALERT, Level.COOLDOWN):
            after = self._cooling(seen, comparison, released)
        elif comparison.novel or sum(recent) >= votes.needed:
            after = self._alert(seen)
        elif sum(recent) or (state.level is Level.WARNING and not released):
            after = replace(seen, level=Level.WARNING)
        else:
            after = replace(seen, level=Level.OK, in_episode=False)
        return after, self._signal(state, after, comparison, sum(recent))

    def _mixed(self, state: MonitorState, comparison: DriftComparison) -> MonitorState:
        """What is told of missing feedback, and of a mix of answers that does not return with the day or the week.

        A mix that is drift has the other votes.
        """
        votes = self.settings.votes
        recent = (*state.recent_mix, comparison.mix_strange)[-votes.among :]
        told = sum(recent) >= votes.needed or (state.mix_told and any(recent))
        return replace(state, recent_mix=recent, mix_told=told, silence_told=comparison.feedback_missing)

    def _check(self, state: MonitorState, comparison: DriftComparison, now_request: int) -> None:
        if comparison.version != state.version:
            raise DataError(
                f"a comparison of version {comparison.version} reached the monitor of version {state.version}; "
                "start a new state when the version changes"
            )
        if now_request < state.last_request + comparison.n_current:
            raise DataError(
                f"a window of {comparison.n_current} rows ends at request {now_request}, the one before it at "
                f"{state.last_request}; windows must not overlap: start each where the last one ended"
            )

    def _alert(self, state: MonitorState) -> MonitorState:
        episode = state.episode if state.in_episode else state.episode + 1
        return replace(
            state,
            level=Level.ALERT,
            recent=(),
            episode=episode,
            in_episode=True,
            cooldown_until=state.last_request + self.settings.cooldown_requests,
        )

    def _cooling(self, state: MonitorState, comparison: DriftComparison, released: bool) -> MonitorState:
        """Votes are not counted while cooling, so an alert cannot follow another before the cooldown has passed."""
        if state.last_request < state.cooldown_until:
            return replace(state, level=Level.COOLDOWN, recent=())
        if released:
            return replace(state, level=Level.OK, recent=(), in_episode=False)
        if comparison.novel:
            return self._alert(state)
        return replace(state, level=Level.WARNING, recent=(comparison.drifted,))

    def _signal(
        self, before: MonitorState, after: MonitorState, comparison: DriftComparison, votes: int
    ) -> DriftSignal:
        alert = after.level is Level.ALERT
        names = ", ".join(signal.value for signal in comparison.drifted_signals) or "no signal"
        more = "; more requests are new to the version than before" if comparison.novel else ""
        among = self.settings.votes.among
        return DriftSignal(
            level=after.level,
            previous=before.level,
            alert=alert,
            episode=after.episode,
            at_request=after.last_request,
            votes=votes,
            signals=comparison.drifted_signals,
            reason=f"{votes} of the last {among} windows drifted; this one in {names} (level {comparison.alpha:.4f})"
            f"{more}",
            mix=after.mix_told and not before.mix_told,
            silence=after.silence_told and not before.silence_told,
        )
