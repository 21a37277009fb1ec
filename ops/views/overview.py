"""Every model at a glance: what answers, how well, what the loop does next, and what needs a person."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from perennial.continual.errors import DataError, PerennialError
from perennial.ops.ledger import Ledger
from perennial.ops.store.removals import is_removed
from perennial.ops.store.state import CLASS_PROPOSALS, LABEL_QUEUE, PAUSED, RETRIES
from perennial.ops.views.health import HealthView
from perennial.ops.views.schedule import JobView, job_view
from perennial.ops.views.status import ModelStatus, model_status
from perennial.ops.views.traffic import TrafficFigures, TrafficViews

__all__ = ["ModelCard", "Need", "known_models", "model_cards", "pulse_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """Something that needs a person: its kind, where it stands, and its facts; `urgent` where something is not well."""

    kind: str
    model: str
    facts: Mapping[str, Any] = field(default_factory=dict)
    urgent: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCard:
    """One model. `traffic` is None where its log cannot be read; `jobs` are in the order in which they are due."""

    task: str
    healthy: bool
    status: ModelStatus
    traffic: TrafficFigures | None
    jobs: tuple[JobView, ...]
    needs: tuple[Need, ...]


def known_models(ledger: Ledger) -> tuple[str, ...]:
    """Return the models that the ledger knows and nobody took out."""
    return tuple(row.name for row in ledger.models() if not is_removed(ledger, row.name))


def model_cards(
    ledger: Ledger, traffic: TrafficViews, health: HealthView, tasks: Mapping[str, str], models: Sequence[str]
) -> tuple[ModelCard, ...]:
    """Return a card of each of these models; a row of the ledger that cannot be read hides no other."""
    jobs = ledger.jobs()
    cards = []
    for model in models:
        status = model_status(ledger, model)
        own = [job_view(ledger, row) for row in jobs if row.name.partition(":")[2] == model.lower()]
        state = health.models.get(model)
        healthy = state is None or state.healthy
        needs = [*_unwell(model, health), *_asked(ledger, status), *_jobs_failed(model, own)]
        cards.append(
            ModelCard(
                task=tasks.get(model, ""),
                healthy=healthy and not status.unreadable,
                status=status,
                traffic=_traffic(traffic, model),
                jobs=tuple(sorted(own, key=lambda job: job.next_due)),
                needs=tuple(sorted(needs, key=lambda need: not need.urgent)),
            )
        )
    return tuple(cards)


def pulse_of(ledger: Ledger) -> Hashable:
    """Return something that is another once pages would show another state; it costs a few rows by key."""
    marks: list[Hashable] = [ledger.audit_head()]
    for model in known_models(ledger):
        cycle, route = ledger.active_cycle(model), ledger.route(model)
        newest = ledger.drift_reports(model, limit=1)
        marks.append((model, None if route is None else route.epoch, newest[0].id if newest else 0))
        marks.append(None if cycle is None else (cycle.id, cycle.state, cycle.saved_at))
    return tuple(marks)


def _traffic(traffic: TrafficViews, model: str) -> TrafficFigures | None:
    try:
        return traffic.of(model)
    except PerennialError:
        return None


def _unwell(model: str, health: HealthView) -> list[Need]:
    state = health.models.get(model)
    if state is None or state.healthy:
        return []
    wrong = [*(state.wrong or {}).values(), *([state.loop] if state.loop else [])]
    return [Need(kind="unwell", model=model, facts={"why": "; ".join(wrong)}, urgent=True)]


def _asked(ledger: Ledger, status: ModelStatus) -> list[Need]:
    model, cycle, needs = status.model, status.cycle, list[Need]()
    if status.unreadable:
        needs.append(Need(kind="unreadable", model=model, facts={"why": "; ".join(status.unreadable)}, urgent=True))
    if status.champion is None:
        needs.append(Need(kind="no_version", model=model))
    if cycle is not None and cycle.state == "approval":
        needs.append(Need(kind="approval", model=model, facts={"version": cycle.challenger}, urgent=True))
    if (errors := status.accuracy and status.accuracy.errors) and errors.alarm_since:
        needs.append(Need(kind="errors", model=model, facts={"since": errors.alarm_since}, urgent=True))
    if status.drift is not None and status.drift.state == "alert":
        needs.append(Need(kind="drift", model=model, facts={"at": status.drift.at.isoformat()}, urgent=True))
    try:
        waits = RETRIES.read(ledger, model)
        if cycle is not None and waits is not None and waits.cycle == cycle.id:
            needs.append(Need(kind="retried", model=model, facts={"step": waits.step, "why": waits.error}, urgent=True))
        if PAUSED.read(ledger, model):
            needs.append(Need(kind="paused", model=model))
        if count := _unlabelled(ledger, model):
            needs.append(Need(kind="labels", model=model, facts={"count": count}))
        proposals = CLASS_PROPOSALS.read(ledger, model)
        if proposals is not None and proposals.groups:
            needs.append(Need(kind="proposals", model=model, facts={"count": len(proposals.groups)}))
    except DataError:
        pass  # the status tells what cannot be read
    return needs


def _unlabelled(ledger: Ledger, model: str) -> int:
    """How many chosen requests wait for a label; of the newest hundreds, for that is what a person can work off."""
    chosen = [row.prediction_id for row in LABEL_QUEUE.read(ledger, model) or ()][-500:]
    return len(chosen) - len(ledger.feedback_labels(model, chosen)) if chosen else 0


def _jobs_failed(model: str, jobs: Sequence[JobView]) -> list[Need]:
    failed = [job for job in jobs if job.last_run is not None and job.last_run.outcome == "failed"]
    return [
        Need(kind="job_failed", model=model, facts={"job": job.job, "why": job.last_run.note or ""}, urgent=True)
        for job in failed
        if job.last_run is not None
    ]
