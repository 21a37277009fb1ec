"""Turns the traffic log into windows, compares each with the champion's reference, and keeps the verdict."""

import logging
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache, partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from perennial.continual.drift.compare import DriftComparison, compare
from perennial.continual.drift.dependence import CountingRule
from perennial.continual.drift.monitor import DriftMonitor, DriftSignal, Level, MonitorState
from perennial.continual.drift.reference import ReferenceProfile, forget_rows
from perennial.continual.drift.seasons import Phase, Seasons, in_season
from perennial.continual.drift.settings import DriftSettings, Votes
from perennial.continual.drift.window import Window
from perennial.continual.errors import DataError
from perennial.ops.ledger.ports import DriftReports, Labels, Routes, State
from perennial.ops.store.event_feed import EventFeed
from perennial.ops.store.state import WATCH, WatchState
from perennial.ops.store.workspace import Workspace
from perennial.ops.traffic import TrafficLog
from perennial.ops.watching.budget import WatchBudget
from perennial.ops.watching.catching_up import BACKLOG, Gap, sampled_report
from perennial.ops.watching.outcomes import OutcomeWatch
from perennial.ops.watching.seasons import PhaseReader
from perennial.ops.watching.sequences import Followed, followed
from perennial.ops.watching.windows import CutWindow, Place, TrafficAhead, passed_over, window_report

__all__ = ["Watcher", "counting_rule", "drift_settings"]

logger = logging.getLogger(__name__)
_CLOCK_STEP = timedelta(minutes=10)  # further ahead than now lies nothing that an honest clock told
_MOST_WINDOWS = 20  # a pass; the next one goes on
_SUSPECTED = 3  # windows a pass that decide about one that drifted, whatever they cost
_SEASONS, _SEQUENCES = 1, 2  # streams of chance beside that of the comparison
_SPARE, _MOST_SPARE = 6, 48  # times a window's rows that are left ahead where rows are passed over: copies do not count


def drift_settings(workspace: Workspace, model: str) -> DriftSettings:
    """The drift rule that the model's settings ask for."""
    drift = workspace.model(model).drift
    return DriftSettings(
        requests_per_false_retraining=drift.requests_per_false_retraining,
        votes=Votes(drift.votes),
        min_rows=min(drift.window_rows, 100),
        cooldown_requests=drift.cooldown_requests,
        mix_votes=drift.answer_mix == "drift",
        new_mix_votes=drift.answer_mix == "new",
    )


def counting_rule(workspace: Workspace, model: str) -> CountingRule:
    """Which requests count, by the model's settings."""
    drift = workspace.model(model).drift
    return CountingRule(copies_within=drift.copies_within, caller_share=drift.caller_share)


class WatcherLedger(DriftReports, Labels, Routes, State, Protocol):
    """Where windows are kept, how far the traffic was watched, and what became of its answers."""


class Watcher:
    """Watches one model's traffic. A pass that was killed is repeated with the same result: the cursor moves last."""

    def __init__(
        self,
        ledger: WatcherLedger,
        workspace: Workspace,
        model: str,
        traffic: TrafficLog,
        feed: EventFeed,
        *,
        backlog: int = BACKLOG,
        budget: WatchBudget | None = None,
    ) -> None:
        """After so many requests that were not watched, `backlog`, the newest come first.

        Where a `budget` does not suffice for all windows, rows are passed over, and told.
        """
        self._ledger, self._workspace, self._model = ledger, workspace, model
        self._traffic, self._feed = traffic, feed
        self._outcomes = OutcomeWatch(ledger, workspace, model)
        self._stripped = False
        self._backlog, self._budget, self._spare = backlog, budget, _SPARE

    def watch(self) -> list[DriftSignal]:
        """Compare the full windows that came since the last pass, as many as the budget allows; empty for none."""
        if self._budget is None:
            return self._watch(_MOST_WINDOWS)
        state = WATCH.read(self._ledger, self._model)
        most = self._budget.windows(_MOST_WINDOWS, least=_SUSPECTED if _is_suspected(state) else 0)
        with self._budget.spent() as windows:
            signals = self._watch(most)
            windows.append(len(signals))
        return signals

    def _watch(self, most: int) -> list[DriftSignal]:
        route = self._ledger.route(self._model)
        if route is None:
            return []
        self._strip_references()
        progress = self._progress(route.champion)
        settings = self._workspace.model(self._model).drift
        signals: list[DriftSignal] = []
        progress = self._caught_up(progress)
        if progress.reference_ready and most < _MOST_WINDOWS:
            if not most:
                return []
            progress = self._passed_over(progress, max(most, self._spare) * settings.window_rows)
        ahead = self._ahead(progress)
        for _ in range(max(1, most)):
            cut = ahead.next(settings.window_rows if progress.reference_ready else settings.reference_rows)
            if cut is None:
                if not signals and ahead.left >= self._spare * settings.window_rows:  # so few of the rows count
                    self._spare = min(_MOST_SPARE, 2 * self._spare)
                break
            cut = self._told(cut, progress.version)
            if progress.reference_ready:
                progress, signal = self._compare(progress, cut)
                signals.append(signal)
            else:
                progress = self._take_reference(progress, cut)
        return signals

    def _caught_up(self, progress: WatchState) -> WatchState:
        """After an outage, the state from where on the newest requests are watched; the gap is sampled and told."""
        after = _after(progress)
        if after is None or not progress.reference_ready:
            return progress
        size = self._workspace.model(self._model).drift.window_rows
        before = datetime.now(UTC) + self._patience(progress.version)
        gap = Gap.behind(
            self._traffic, progress.version, after, newest=_MOST_WINDOWS * size, before=before, backlog=self._backlog
        )
        if gap is None:
            return progress
        reference = ReferenceProfile.load(self._reference(progress.version))
        samples = list(gap.samples(self._traffic, progress.version, size, rule=self._rule()))
        moved = progress.changed(cursor=gap.until.at.isoformat(), cursor_id=gap.until.prediction_id, counting_from=None)
        rows = [
            sampled_report(
                self._model,
                progress,
                reference,
                replace(sample, cut=self._told(sample.cut, progress.version)),
                settings=drift_settings(self._workspace, self._model),
                rule=self._rule(),
                seed=(self._workspace.settings.seed, progress.version, progress.windows, number),
            )
            for number, sample in enumerate(samples)
        ]
        with self._ledger.transaction():
            for row in rows:
                self._ledger.add_drift_report(row)
            WATCH.keep(self._ledger, self._model, moved)
        facts = {
            "version": progress.version,
            "gap_from": gap.after.at.isoformat(),
            "gap_to": gap.until.at.isoformat(),
            "sampled": len(rows),
            "drifted": sum(bool(row.payload["comparison"]["drifted"]) for row in rows),
        }
        self._feed.record(self._model, "drift.gap", **facts)
        logger.warning("drift.gap", extra={"model": self._model, **facts})
        return moved

    def _passed_over(self, progress: WatchState, newest: int) -> WatchState:
        """The state from where on the newest rows are watched; those before are counted, and never looked at.

        What is passed over is told with the next window: a pass that is killed before it does the same again.
        """
        after = _after(progress)
        if after is None:
            return progress
        until = datetime.now(UTC) + self._patience(progress.version)
        found = passed_over(self._traffic, progress.version, after, newest=newest, until=until)
        if found is None:
            return progress
        place, rows = found
        return progress.changed(
            cursor=place.at.isoformat(),
            cursor_id=place.prediction_id,
            counting_from=None,
            requests=progress.requests + rows,
            passed_over=progress.passed_over + rows,
        )

    def _strip_references(self) -> None:
        """Once a process: references of earlier releases, which held texts, are written anew without them."""
        if not self._stripped:
            for folder in self._workspace.reports(self._model).glob("reference-*"):
                try:
                    forget_rows(folder, ())
                except DataError as exc:
                    logger.warning("drift.reference_damaged", extra={"model": self._model, "reason": str(exc)})
            self._stripped = True

    def _progress(self, champion: int) -> WatchState:
        state = WATCH.read(self._ledger, self._model)
        if state is not None and state.version == champion:
            if state.reference_ready and not self._reference(champion).is_dir():  # an erasure left too few of its rows
                return self._healed(state).changed(reference_ready=False, sequential=None)  # of those rows
            return self._healed(state)
        episode = 0 if state is None else state.episode
        fresh = DriftMonitor(settings=drift_settings(self._workspace, self._model)).start(champion, episode=episode)
        started = WatchState(
            version=champion,
            cursor=datetime.now(UTC).isoformat() if state else None,
            reference_ready=self._reference(champion).is_dir(),  # a champion that was rolled back to has one
            monitor=fresh.to_json(),
        )
        WATCH.keep(self._ledger, self._model, started)
        return started

    def _healed(self, state: WatchState) -> WatchState:
        """The state with times that a wrong clock put ahead of now brought back: they would stop the watch for ever."""
        now = datetime.now(UTC)
        future: dict[str, Any] = {
            name: now.isoformat()
            for name in ("cursor", "drift_since", "like_until", "alerted_since")
            if (at := getattr(state, name)) is not None and datetime.fromisoformat(at) > now + _CLOCK_STEP
        }
        if not future:
            return state
        logger.warning("watch.clock_healed", extra={"model": self._model, "cursor": state.cursor})
        healed = state.changed(**future, **({"cursor_id": "", "counting_from": None} if "cursor" in future else {}))
        WATCH.keep(self._ledger, self._model, healed)
        return healed

    def _ahead(self, progress: WatchState) -> TrafficAhead:
        return TrafficAhead(
            self._traffic,
            progress.version,
            after=_after(progress),
            counting_from=Place.from_json(progress.counting_from),
            until=datetime.now(UTC) + self._patience(progress.version),
            rule=self._rule(),
        )

    def _told(self, cut: CutWindow, version: int) -> CutWindow:
        """The window with what became of its answers, where a task tells it."""
        return replace(cut, window=self._outcomes.told(cut.window, version))

    def _patience(self, version: int) -> timedelta:
        """How far ahead of now rows are read: what lies beyond a clock's step was logged under a wrong one."""
        waits = self._outcomes.patience(version)
        return -waits if waits else _CLOCK_STEP

    def _rule(self) -> CountingRule:
        return counting_rule(self._workspace, self._model)

    def _take_reference(self, progress: WatchState, cut: CutWindow) -> WatchState:
        rng = np.random.default_rng([self._workspace.settings.seed, progress.version])
        profile = ReferenceProfile.build(cut.window, version=progress.version, rng=rng)
        profile.save(self._reference(progress.version))
        self._feed.record(self._model, "drift.reference", version=progress.version, rows=len(cut.window))
        moved = progress.changed(**_end(cut), reference_ready=True, requests=progress.requests + len(cut.window))
        WATCH.keep(self._ledger, self._model, moved)
        return moved

    def _compare(self, progress: WatchState, cut: CutWindow) -> tuple[WatchState, DriftSignal]:
        window = cut.window
        reference = ReferenceProfile.load(self._reference(progress.version))
        settings = drift_settings(self._workspace, self._model)
        rng = np.random.default_rng([self._workspace.settings.seed, progress.version, progress.windows])
        one_by_one = self._settled(progress, compare(reference, window, settings, rng), reference, window)
        comparison = one_by_one.comparison
        before = MonitorState.from_json(progress.monitor or {})
        requests = progress.requests + len(window)
        after, signal = DriftMonitor(settings=settings).update(before, comparison, requests)
        began = progress.drift_since
        if comparison.drifted and began is None:
            began = progress.cursor
        elif after.level is Level.OK:
            began = None
        in_alert = after.level in {Level.ALERT, Level.COOLDOWN} and began is not None
        alerted = began if in_alert else progress.alerted_since
        end = _end(cut)
        every = self._workspace.model(self._model).drift.report_every_windows
        wanted = (signal.alert and after.episode != before.episode) or progress.windows % every == 0
        moved = progress.changed(
            **end,
            requests=requests,
            windows=progress.windows + 1,
            used_share=0.0 if self._budget is None else round(self._budget.used_share, 4),
            monitor=after.to_json(),
            drift_since=began,
            alerted_since=alerted,
            sequential=one_by_one.states,
            like_until=end["cursor"] if comparison.like_reference(settings) else progress.like_until,
        )
        row = window_report(
            self._model,
            progress.version,
            cut,
            comparison,
            signal,
            after=_after(progress),
            counting_from=progress.counting_from,
            rule=self._rule(),
            told={"drift_since": began, "report_wanted": wanted, "sequential": one_by_one.told},
        )
        with self._ledger.transaction():  # a killed pass leaves both or none: no window is reported twice
            report_id = self._ledger.add_drift_report(row)
            WATCH.keep(self._ledger, self._model, moved)
        self._record(progress.version, comparison, signal, report_id, cut)
        return moved, signal

    def _settled(
        self, progress: WatchState, comparison: DriftComparison, reference: ReferenceProfile, window: Window
    ) -> Followed:
        """The comparison, with what the same hours before and the requests one by one say of the window."""
        drift = self._workspace.model(self._model).drift
        seasons = Seasons(drift.seasons)
        like_until = None if progress.like_until is None else datetime.fromisoformat(progress.like_until)

        @cache
        def phases() -> Mapping[str, Phase]:
            told = partial(self._outcomes.told, version=progress.version)
            reader = PhaseReader(self._traffic, progress.version, seasons=seasons, rule=self._rule(), told=told)
            return reader.phases(window, reference.sample, like_until)

        seed = [self._workspace.settings.seed, progress.version, progress.windows]
        if comparison.drifted or comparison.mix_moved:
            comparison = in_season(
                comparison,
                reference,
                window,
                phases(),
                drift_settings(self._workspace, self._model),
                np.random.default_rng([*seed, _SEASONS]),
                declared=seasons.declared,
            )
        return followed(
            progress.sequential,
            drift,
            comparison,
            reference,
            window,
            phases,
            np.random.default_rng([*seed, _SEQUENCES]),
            declared=seasons.declared,
        )

    def _record(
        self, version: int, comparison: DriftComparison, signal: DriftSignal, report_id: int, cut: CutWindow
    ) -> None:
        top = comparison.signals[0]
        facts = {
            "version": version,
            "state": signal.level.value,
            "alert": signal.alert,
            "drifted": comparison.drifted,
            "report": report_id,
            "top_signal": top.signal.value,
            "score": max(_score(s.result.effect, s.result.floor) for s in comparison.signals),
            "signals": [s.value for s in comparison.drifted_signals],
            "window_to": cut.end.at.isoformat(),
            "requests": cut.requests,
            "mix_moved": comparison.mix_moved,
            "season": comparison.season.value,
            "novel": comparison.novel,
            "mix_season": comparison.mix_season.value,
            "silent_share": comparison.silent_share,
        }
        self._feed.record(self._model, "drift.window", **facts)
        if signal.mix:
            told = {"version": version, "report": report_id, "mix_season": comparison.mix_season.value}
            self._feed.record(self._model, "drift.mix", window_to=facts["window_to"], **told)
        if signal.silence:
            missing = {"version": version, "report": report_id, "silent_share": comparison.silent_share}
            self._feed.record(self._model, "drift.feedback_missing", window_to=facts["window_to"], **missing)
            logger.warning("drift.feedback_missing", extra={"model": self._model, **missing})
        logger.info("drift.window", extra={"model": self._model, **facts})

    def _reference(self, version: int) -> Path:
        return self._workspace.reference(self._model, version)


def _score(effect: float, floor: float) -> float:
    """An effect in units of its floor: above 1 it is large enough to matter."""
    return effect / floor if floor > 0 else effect


def _after(progress: WatchState) -> Place | None:
    """Behind which row the watch goes on; None from the first one on."""
    return None if progress.cursor is None else Place(datetime.fromisoformat(progress.cursor), progress.cursor_id)


def _is_suspected(state: WatchState | None) -> bool:
    """Whether a window drifted and the next ones decide what it was."""
    return state is not None and state.level is Level.WARNING


def _end(cut: CutWindow) -> dict[str, Any]:
    """The cursor behind a window's last row, and from where on it is decided what counts behind it."""
    return {
        "cursor": cut.end.at.isoformat(),
        "cursor_id": cut.end.prediction_id,
        "counting_from": cut.counting_from.to_json(),
    }
