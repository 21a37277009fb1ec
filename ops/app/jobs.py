"""The jobs of the loop: what the scheduler does again and again for each model."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from perennial.ops.app.housekeeping import Housekeeping
from perennial.ops.app.model_loop import ModelLoop
from perennial.ops.safety.log_context import about
from perennial.ops.scheduling.jobs import JobRun, JobSpec
from perennial.ops.settings import ScheduleSettings

__all__ = ["ModelJobs"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelJobs:
    """The table of jobs. `reconcile` and `notify` get the model's name; all actions return a note, or nothing."""

    every: ScheduleSettings
    reconcile: Callable[[str], str]
    notify: Callable[[str], str]

    def of(self, loop: ModelLoop) -> list[JobSpec]:
        """Return the jobs of one model."""
        every = self.every
        table = (
            # of low priority, so that it holds up nothing else, and a slow one no other model's
            ("watch", loop.watch, every.watch_s, f"watch-{loop.model.lower()}"),
            ("report", loop.report, every.report_s, "reports"),  # seconds of work: it waits for nobody's turn
        )
        check = _spec(loop.model, "retrain", loop.check, every.retrain_check_s, "default")
        kept = self._of_rows(loop.model, loop.compact, loop.retain)
        news = () if loop.news is None else (("events", loop.news.look_after, every.events_s, "reports"),)
        upkeep = loop.engines
        engines = (("engine", upkeep.look, upkeep.every_s, "engines"),) if upkeep.is_wanted else ()  # once
        feeds = tuple((f"feed-{name}", take, every_s, "feeds") for name, (take, every_s) in loop.feeds.items())
        return [
            replace(check, wanted=loop.labels_came),
            *(_spec(loop.model, *row) for row in (*table, *engines, *news, *feeds)),
            *kept,
            *self._of_served(loop.model),
        ]

    def of_broken(self, rows: Housekeeping) -> list[JobSpec]:
        """Return the jobs of a model without a loop: it goes on being served."""
        return [*self.of_unserved(rows), *self._of_served(rows.model)]

    def of_unserved(self, rows: Housekeeping) -> list[JobSpec]:
        """Return the jobs of a model that nobody serves: what is left of its rows grows old all the same."""
        return self._of_rows(rows.model, rows.compact, rows.retain_unserved)

    def _of_rows(self, model: str, compact: Callable[[], str], retain: Callable[[], str]) -> list[JobSpec]:
        every = self.every
        return [
            _spec(model, "compact", compact, every.compact_s, "default"),
            _spec(model, "retention", retain, every.retention_s, "default"),
        ]

    def _of_served(self, model: str) -> list[JobSpec]:
        every = self.every
        table = (
            ("reconcile", lambda: self.reconcile(model), every.reconcile_s, "default"),
            ("notify", lambda: self.notify(model), every.notify_s, "notices"),  # a dead receiver takes its time
        )
        return [_spec(model, *row) for row in table]


def _spec(model: str, what: str, action: Callable[[], str], interval_s: float, lane: str) -> JobSpec:
    """A job of a model, whose jobs together are one group: slow ones hold up no other model's."""
    name = f"{what}:{model.lower()}"
    return JobSpec(name=name, action=_run_of(model, action), interval_s=interval_s, lane=lane, group=model)


def _run_of(model: str, action: Callable[[], str]) -> Callable[[JobRun], str | None]:
    def run(_: JobRun) -> str | None:
        with about(model=model):
            return action() or None

    return run
