"""Turns the traffic log into windows, compares each with the champion's reference, and keeps the verdict."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from continual.drift.compare import DriftComparison, compare
from continual.drift.monitor import DriftMonitor, DriftSignal, Level, MonitorState
from continual.drift.reference import ReferenceProfile
from continual.drift.settings import DriftSettings, Votes
from continual.drift.window import Window
from ops.ledger import DriftReportRow, Ledger
from ops.loop.events import Happenings
from ops.traffic import TrafficLog
from ops.workspace import Workspace

__all__ = ["ReportRequest", "Watcher", "drift_settings", "reference_folder"]

logger = logging.getLogger(__name__)
_STATE = "watch"
_MOST_WINDOWS = 20  # a pass; the next one goes on


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportRequest:
    """A window whose Evidently report is wanted, made outside the request path."""

    model: str
    report_id: int
    reference: ReferenceProfile
    window: Window
    comparison: DriftComparison


@dataclass(frozen=True, slots=True, kw_only=True)
class _Progress:
    """How far the traffic of one version was watched. `cursor` is the last row's time, in ISO form."""

    version: int
    cursor: str | None = None
    reference_ready: bool = False
    requests: int = 0
    windows: int = 0
    monitor: Mapping[str, Any] | None = None
    drift_since: str | None = None  # when the first window of the present episode began

    def changed(self, **facts: Any) -> "_Progress":
        return replace(self, **facts)


def drift_settings(workspace: Workspace, model: str) -> DriftSettings:
    """The drift rule that the model's settings ask for."""
    told = workspace.model(model).drift
    return DriftSettings(
        requests_per_false_retraining=told.requests_per_false_retraining,
        votes=Votes(told.votes),
        min_rows=min(told.window_rows, 100),
        cooldown_requests=told.cooldown_requests,
    )


def reference_folder(workspace: Workspace, model: str, version: int) -> Path:
    """Where a version's reference lies."""
    return workspace.reports(model) / f"reference-{version}"


class Watcher:
    """Watches one model's traffic. A pass that was killed is repeated with the same result: the cursor moves last."""

    def __init__(
        self,
        ledger: Ledger,
        workspace: Workspace,
        model: str,
        traffic: TrafficLog,
        happenings: Happenings,
        wants_report: Callable[[ReportRequest], None],
    ) -> None:
        self._ledger, self._workspace, self._model = ledger, workspace, model
        self._traffic, self._happenings, self._wants_report = traffic, happenings, wants_report

    def watch(self) -> list[DriftSignal]:
        """Compare every full window that came since the last pass; empty when none is full."""
        route = self._ledger.route(self._model)
        if route is None:
            return []
        progress = self._progress(route.champion)
        settings = self._workspace.model(self._model).drift
        signals = []
        for _ in range(_MOST_WINDOWS):
            rows = settings.window_rows if progress.reference_ready else settings.reference_rows
            window, cursor = self._next_window(progress, rows)
            if window is None:
                break
            if progress.reference_ready:
                progress, signal = self._compare(progress, window, cursor)
                signals.append(signal)
            else:
                progress = self._take_reference(progress, window, cursor)
            self._ledger.put_state(self._model, _STATE, _plain(progress))
        return signals

    def in_alert(self) -> bool:
        """Whether the champion's traffic stands in an alert."""
        level = self._level()
        return level in {Level.ALERT, Level.COOLDOWN} and self.drift_since() is not None

    def drift_since(self) -> datetime | None:
        """When the first drifted window of the present episode began."""
        told = self._ledger.get_state(self._model, _STATE)
        return None if not told or not told.get("drift_since") else datetime.fromisoformat(told["drift_since"])

    def _level(self) -> Level:
        told = self._ledger.get_state(self._model, _STATE)
        return Level.OK if not told or not told.get("monitor") else Level(told["monitor"]["level"])

    def _progress(self, champion: int) -> _Progress:
        told = self._ledger.get_state(self._model, _STATE)
        if told and told["version"] == champion:
            return _Progress(**told)
        episode = int(((told or {}).get("monitor") or {}).get("episode", 0))
        fresh = DriftMonitor(settings=drift_settings(self._workspace, self._model)).start(champion, episode=episode)
        started = _Progress(
            version=champion,
            cursor=datetime.now(UTC).isoformat() if told else None,
            reference_ready=self._reference(champion).is_dir(),  # a champion that was rolled back to has one
            monitor=fresh.to_json(),
        )
        self._ledger.put_state(self._model, _STATE, _plain(started))
        return started

    def _next_window(self, progress: _Progress, rows: int) -> tuple[Window | None, str]:
        since = None if progress.cursor is None else datetime.fromisoformat(progress.cursor)
        table = self._traffic.read(since=since, version=progress.version)
        if since is not None:
            import pyarrow.compute as pc

            table = table.filter(pc.greater(table["at"], since))
        if table.num_rows < rows:
            return None, ""
        table = table.slice(0, rows)
        window = Window.from_columns({name: table[name] for name in table.column_names})
        return window, table["at"][rows - 1].as_py().isoformat()

    def _take_reference(self, progress: _Progress, window: Window, cursor: str) -> _Progress:
        rng = np.random.default_rng([self._workspace.settings.seed, progress.version])
        profile = ReferenceProfile.build(window, version=progress.version, rng=rng)
        profile.save(self._reference(progress.version))
        self._happenings.tell(self._model, "drift.reference", version=progress.version, rows=len(window))
        return progress.changed(cursor=cursor, reference_ready=True, requests=progress.requests + len(window))

    def _compare(self, progress: _Progress, window: Window, cursor: str) -> tuple[_Progress, DriftSignal]:
        reference = ReferenceProfile.load(self._reference(progress.version))
        settings = drift_settings(self._workspace, self._model)
        rng = np.random.default_rng([self._workspace.settings.seed, progress.version, progress.windows])
        comparison = compare(reference, window, settings, rng)
        before = MonitorState.from_json(progress.monitor or {})
        requests = progress.requests + len(window)
        after, signal = DriftMonitor(settings=settings).update(before, comparison, requests)
        began = progress.drift_since
        if comparison.drifted and began is None:
            began = progress.cursor
        elif after.level is Level.OK:
            began = None
        report_id = self._ledger.add_drift_report(
            DriftReportRow(
                model=self._model,
                version=progress.version,
                at=datetime.now(UTC),
                rows=len(window),
                state=after.level.value,
                payload={"signal": signal.to_json(), "comparison": comparison.to_json()},
                window_from=None if progress.cursor is None else datetime.fromisoformat(progress.cursor),
                window_to=datetime.fromisoformat(cursor),
            )
        )
        self._tell(progress.version, comparison, signal, report_id, cursor)
        every = self._workspace.model(self._model).drift.report_every_windows
        new_episode = signal.alert and after.episode != before.episode
        if new_episode or progress.windows % every == 0:
            self._wants_report(
                ReportRequest(
                    model=self._model, report_id=report_id, reference=reference, window=window, comparison=comparison
                )
            )
        moved = progress.changed(
            cursor=cursor, requests=requests, windows=progress.windows + 1, monitor=after.to_json(), drift_since=began
        )
        return moved, signal

    def _tell(
        self, version: int, comparison: DriftComparison, signal: DriftSignal, report_id: int, window_to: str
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
            "window_to": window_to,
        }
        self._happenings.tell(self._model, "drift.window", **facts)
        logger.info("drift.window", extra={"model": self._model, **facts})

    def _reference(self, version: int) -> Path:
        return reference_folder(self._workspace, self._model, version)


def _score(effect: float, floor: float) -> float:
    """An effect in units of its floor: above 1 it is large enough to matter."""
    return effect / floor if floor > 0 else effect


def _plain(progress: _Progress) -> dict[str, Any]:
    return asdict(progress)
