"""What a running service looks at, and how it tells of it."""

import os
import shutil
import time
from collections.abc import Mapping
from dataclasses import astuple
from functools import partial

from perennial.continual.errors import DependencyUnreachable
from perennial.ops.app.health import Health, PartHealth, job_parts
from perennial.ops.parts import Parts
from perennial.ops.scheduling.scheduler import LoopScheduler
from perennial.ops.serving.router_losses import RouterLosses
from perennial.ops.store.ledger_guard import check_not_behind
from perennial.ops.store.steady_clock import SteadyClock
from perennial.ops.traffic import TrafficLog

__all__ = ["ServiceHealth"]

_LIMIT_S = 30.0  # for a look that takes milliseconds
_BEAT_LIMIT_S = 30.0
_LEAST_FREE_BYTES = 256 * 2**20


class ServiceHealth:
    """The parts of one service: jobs, scheduler, ledger, traffic logs, disk and clock; Triton is told by its watch."""

    def __init__(self, parts: Parts, scheduler: LoopScheduler, losses: RouterLosses, clock: SteadyClock) -> None:
        self._parts, self._scheduler, self._losses = parts, scheduler, losses
        self._traffic: Mapping[str, TrafficLog] = {}
        self._health = Health()
        self._health.watch("ledger", self._ledger, limit_s=_LIMIT_S)
        self._health.watch("disk", self._disk, limit_s=_LIMIT_S)
        self._health.watch("clock", clock.describe_jump, limit_s=_LIMIT_S)

    def add(self, model: str, traffic: TrafficLog) -> None:
        """Look at a model's parts too."""
        self._traffic = {**self._traffic, model: traffic}
        self._health.watch(f"traffic:{model}", partial(self._log, model), limit_s=_LIMIT_S)
        self._health.watch(f"router:{model}", partial(self._router, model), limit_s=_LIMIT_S)

    def remove(self, model: str) -> None:
        """Look at a model's parts no more."""
        self._traffic = {other: log for other, log in self._traffic.items() if other != model}
        for part in (f"traffic:{model}", f"router:{model}"):
            self._health.forget(part)

    def start(self) -> None:
        """Begin to look at the parts."""
        self._health.start()

    def stop(self) -> None:
        """Look no more."""
        self._health.stop()

    def parts(self) -> Mapping[str, PartHealth]:
        """Return every part but Triton."""
        now, leading = time.monotonic(), self._scheduler.leader.epoch is not None
        beat, error = self._scheduler.last_beat
        scheduler = PartHealth(
            healthy=now - beat <= _BEAT_LIMIT_S,
            last_s=now - beat,
            limit_s=_BEAT_LIMIT_S,
            error=error,
            note="leads" if leading else "another process leads",
        )
        jobs = job_parts(self._scheduler.facts(), leading=leading, now=now)
        return {"scheduler": scheduler, **self._health.parts(), **{f"job:{name}": job for name, job in jobs.items()}}

    def _ledger(self) -> str:
        self._parts.ledger.ping()
        for model in self._traffic:
            check_not_behind(self._parts.ledger.route(model), self._parts.workspace, model)
        return ""

    def _disk(self) -> str:
        free = shutil.disk_usage(self._parts.settings.state).free
        if free < _LEAST_FREE_BYTES:
            raise DependencyUnreachable(
                f"{self._parts.settings.state} has {free / 2**20:.0f} MiB left, and {_LEAST_FREE_BYTES >> 20} MiB are "
                f"wanted; make room, or lower traffic.retention_days"
            )
        return f"{free / 2**30:.1f} GiB free"

    def _router(self, model: str) -> str:
        """What the routers could not write, by what they said to probes."""
        losses = self._losses.of(model)
        if losses.dropped_lately:
            raise DependencyUnreachable(
                f"the routers of {model} dropped {losses.dropped_lately} rows of answered requests in the last minute, "
                f"{losses.dropped} since they started, and {losses.waiting} wait in memory: the disk of "
                f"{self._parts.workspace.traffic(model)} does not take them; make room there or see to its rights"
            )
        return f"{losses.waiting} rows wait in memory, {losses.dropped} were dropped" if any(astuple(losses)) else ""

    def _log(self, model: str) -> str:
        folder = self._parts.workspace.traffic(model)
        if folder.is_dir() and not os.access(folder, os.W_OK | os.X_OK):
            raise DependencyUnreachable(f"{folder} cannot be written; see to its rights")
        aside, lost = self._traffic[model].quarantined(), self._traffic[model].lost()
        notes = [f"{len(aside)} damaged files in quarantine, the last: {aside[-1].cause}"] if aside else []
        if lost.rows and lost.last is not None:
            notes.append(f"{lost.rows} answered rows were lost, the last at {lost.last:%Y-%m-%d %H:%M:%S} UTC")
        return "; ".join(notes)
