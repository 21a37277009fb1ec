"""What the control API, and whoever else asks, may have of a running service."""

import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime

from perennial.client.rewrites import Rewritten
from perennial.client.streams import Piece
from perennial.continual.errors import Refused
from perennial.continual.learning.ranking import Item
from perennial.continual.records import Route
from perennial.continual.route import ANY_ROUTE, ExpectedRoute
from perennial.continual.speech.listener import Listener
from perennial.continual.tasks.generation import Rewrite
from perennial.ops.app.readiness import Readiness
from perennial.ops.app.roster import ModelRoster
from perennial.ops.app.servers import Servers
from perennial.ops.app.service_health import ServiceHealth
from perennial.ops.commands.catalogue import CatalogueChange, catalogue, withdraw_items
from perennial.ops.commands.class_proposals import ClassProposals
from perennial.ops.commands.erasing.person import PersonErasure, PersonPlan, erase_person, plan_person
from perennial.ops.commands.event_watch import judge_alert, latest_alerts, latest_events, one_alert
from perennial.ops.commands.label_queue import DoubtedLabel, LabelQueue, OpenQueue
from perennial.ops.commands.promotion import promote_version, roll_back_version
from perennial.ops.commands.reply_library import ReplyLibrary
from perennial.ops.commands.rewriting import rewrite_stream
from perennial.ops.commands.speech import Spoken, hear_and_ask
from perennial.ops.commands.users import UserProfile, UserWishes, change_wishes, user_profile
from perennial.ops.scheduling.scheduler import LoopScheduler
from perennial.ops.store.alerts import LAST_NUMBER, AlertState
from perennial.ops.store.feedback import AdmittedSignal, AdmittedVerdict, add_signals, add_verdicts
from perennial.ops.views.alerts import AlertView, EventView, alert_view, event_view
from perennial.ops.views.health import (
    ControlView,
    HealthView,
    ModelHealth,
    ReadyView,
    SchedulerView,
    TritonView,
    part_rows,
)
from perennial.ops.views.metrics import prometheus_text
from perennial.ops.views.rows import ClassRows, class_rows
from perennial.ops.views.settings_in_force import SettingRow, settings_in_force
from perennial.ops.views.version_quality import VersionReport, version_report

__all__ = ["ServiceControl"]

_DISK = "disk"


class ServiceControl:
    """Commands to the running loops, and how the service is; see `LoopControl`, the API's side of it."""

    def __init__(
        self, roster: ModelRoster, servers: Servers, scheduler: LoopScheduler, parts_health: ServiceHealth
    ) -> None:
        self._roster, self._servers, self._scheduler, self._health = roster, servers, scheduler, parts_health
        self._readiness = Readiness()
        self._listener = Listener(roster.parts.settings.speech.spec)
        self._started = time.monotonic()

    def promote(
        self, model: str, version: int, *, actor: str, reason: str, expected: ExpectedRoute = ANY_ROUTE
    ) -> Route:
        """See `LoopControl`."""
        return promote_version(self._roster.parts, model, version, actor=actor, reason=reason, expected=expected)

    def roll_back(
        self, model: str, *, to: int | None, actor: str, reason: str, expected: ExpectedRoute = ANY_ROUTE
    ) -> Route:
        """See `LoopControl`."""
        return roll_back_version(self._roster.parts, model, to=to, actor=actor, reason=reason, expected=expected)

    def retrain(self, model: str, *, actor: str) -> int | None:
        """See `LoopControl`."""
        if model not in self._roster.loops:
            why = self._roster.broken.get(model, "the settings of this process do not name it")
            raise Refused(f"{model} is not watched and retrained here: {why}")
        return self._roster.loops[model].runner.fire(f"asked by {actor}", actor=actor)

    def erase(self, key: str, *, model: str | None, dry_run: bool, actor: str) -> PersonPlan | PersonErasure:
        """See `Eraser`."""
        parts = self._roster.parts
        return plan_person(parts, key, model) if dry_run else erase_person(parts, key, model=model, actor=actor)

    def labels_kept(self, model: str) -> None:
        """See `LabelHearer`."""
        if (loop := self._roster.loops.get(model)) is not None and loop.labels_delivered():
            self._scheduler.look()

    def keep_signals(self, model: str, signals: Sequence[AdmittedSignal]) -> dict[str, int]:
        """See `SignalKeeper`."""
        parts = self._roster.parts
        return add_signals(parts.ledger, parts.workspace, model, signals)

    def user(self, model: str, user: str) -> UserProfile:
        """See `UserKeeper`."""
        return user_profile(self._roster.parts.workspace, model, user)

    def change_wishes(self, model: str, user: str, wishes: UserWishes) -> UserProfile:
        """See `UserKeeper`."""
        return change_wishes(self._roster.parts.workspace, model, user, wishes)

    def keep_verdicts(self, model: str, verdicts: Sequence[AdmittedVerdict]) -> dict[str, int]:
        """See `VerdictKeeper`."""
        parts = self._roster.parts
        return add_verdicts(parts.ledger, parts.workspace, model, verdicts)

    def reply_library(self, model: str) -> ReplyLibrary:
        """See `Librarian`."""
        parts = self._roster.parts
        parts.workspace.model(model)
        return ReplyLibrary(parts.ledger, parts.workspace, model)

    async def rewrite(self, model: str, asked: Rewrite, *, key: str | None) -> AsyncGenerator[Piece | Rewritten, None]:
        """See `Teller`."""
        return await rewrite_stream(self._roster.parts, model, asked, key=key)

    def hear(self, model: str, sent: bytes, *, key: str | None, language: str | None, caller: str) -> Spoken:
        """See `Hearer`."""
        return hear_and_ask(self._roster.parts, self._listener, model, sent, key=key, language=language, caller=caller)

    def close(self) -> None:
        """End what was begun for those who ask."""
        self._listener.close()

    def alerts(self, model: str, *, state: AlertState | None, last: int, before: int = LAST_NUMBER) -> list[AlertView]:
        """See `AlertDesk`."""
        found = latest_alerts(self._roster.parts.workspace, model, state=state, last=last, before=before)
        return [alert_view(one) for one in found]

    def alert(self, model: str, number: int) -> AlertView:
        """See `AlertDesk`."""
        return alert_view(one_alert(self._roster.parts.workspace, model, number))

    def judge(self, model: str, number: int, state: AlertState, *, actor: str, note: str) -> AlertView:
        """See `AlertDesk`."""
        parts = self._roster.parts
        return alert_view(judge_alert(parts.ledger, parts.workspace, model, number, state, actor=actor, note=note))

    def news_events(self, model: str, *, last: int, before: tuple[datetime, str] | None = None) -> list[EventView]:
        """See `AlertDesk`."""
        found = latest_events(self._roster.parts.workspace, model, last=last, before=before)
        return [event_view(row) for row in found]

    def label_queue(self, model: str, *, limit: int, fill: int) -> OpenQueue:
        """See `LoopControl`."""
        parts = self._roster.parts
        return LabelQueue(parts.ledger, parts.workspace, model).waiting(limit=limit, fill=fill)

    def version_report(self, model: str, version: int) -> VersionReport:
        """See `EvidenceDesk`."""
        parts = self._roster.parts
        return version_report(parts.ledger, parts.workspace, model, version).without_texts()

    def class_rows(self, model: str) -> tuple[ClassRows, ...]:
        """See `EvidenceDesk`."""
        parts = self._roster.parts
        return class_rows(parts.ledger, parts.workspace, model)

    def doubted(self, model: str, *, rows: int) -> list[DoubtedLabel]:
        """See `EvidenceDesk`."""
        parts = self._roster.parts
        return LabelQueue(parts.ledger, parts.workspace, model).doubts(rows=rows)

    def items(self, model: str) -> tuple[Item, ...]:
        """See `EvidenceDesk`."""
        return tuple(catalogue(self._roster.parts.workspace, model))

    def withdraw_items(
        self, model: str, names: list[str], *, actor: str, withdrawn: bool, dry_run: bool
    ) -> CatalogueChange:
        """See `EvidenceDesk`."""
        parts = self._roster.parts
        return withdraw_items(
            parts.ledger, parts.workspace, model, names, actor=actor, withdrawn=withdrawn, dry_run=dry_run
        )

    def class_proposals(self, model: str) -> ClassProposals:
        """See `Proposer`."""
        parts = self._roster.parts
        return ClassProposals(parts.ledger, parts.workspace, model)

    def settings(self) -> tuple[SettingRow, ...]:
        """See `LoopControl`."""
        return settings_in_force(self._roster.parts.settings)

    def metrics(self) -> str:
        """See `LoopControl`."""
        parts = {row.part: row.healthy for row in part_rows(self.health())}
        ledger, names = self._roster.parts.ledger, self._roster.names
        loops = dict(self._roster.loops)
        return prometheus_text(
            ledger,
            names,
            restarts=self._servers.restarts,
            parts=parts,
            rows_lost={name: loop.traffic.lost().rows for name, loop in loops.items()},
            answered={name: times for name, loop in loops.items() if (times := loop.answer_times())},
        )

    def health(self) -> HealthView:
        """See `LoopControl`."""
        failing = self._servers.failing()
        supervisor, urls = self._servers.supervisor, [control.url for control in self._roster.parts.controls]
        broken = self._roster.broken
        models = {model: self._model_health(model, failing) for model in dict.fromkeys([*self._roster.names, *broken])}
        nowhere = {model for model, state in models.items() if all(url in (state.wrong or {}) for url in urls)}
        triton = supervisor.healthy if supervisor is not None else not nowhere
        parts = self._health.parts()
        unhealthy = [] if triton else ["triton"]
        unhealthy += [f"model:{model}" for model in models if model in broken or model in nowhere]
        unhealthy += [name for name, part in parts.items() if not part.healthy]
        servers = {url: _as_text(failing.get(url, {})) for url in urls}
        leading = self._scheduler.leader.epoch is not None
        return HealthView(
            healthy=not unhealthy,
            unhealthy=tuple(unhealthy),
            triton=TritonView(healthy=triton, restarts=self._servers.restarts, servers=servers),
            models=models,
            scheduler=SchedulerView(**asdict(parts["scheduler"].view()), leading=leading),
            parts={name: part.view() for name, part in parts.items() if name != "scheduler"},
            uptime_s=time.monotonic() - self._started,
        )

    def ready(self) -> ReadyView:
        """See `LoopControl`."""
        looked = self._readiness.look(self._roster.parts, self._servers.served())
        serving = {model: _by_one(servers) for model, servers in looked.items()}
        failing: dict[str, dict[str, str]] = {}
        for model, servers in looked.items():
            for url, state in servers.items():
                if state != "ok":
                    failing.setdefault(url, {})[model] = state
        ledger = self._health.parts()["ledger"]
        return ReadyView(
            ready=bool(serving) and all(state == "ok" for state in serving.values()),
            serving=serving,
            failing=failing,
            control=ControlView(ready=ledger.healthy, ledger=ledger.view()),
        )

    def _model_health(self, model: str, failing: Mapping[str, Mapping[str, str]]) -> ModelHealth:
        wrong = {url or _DISK: models[model] for url, models in failing.items() if model in models}
        loop = self._roster.broken.get(model)
        return ModelHealth(healthy=not wrong and loop is None, wrong=wrong or None, loop=loop)


def _by_one(servers: Mapping[str, str]) -> str:
    """Whether one server answers; the causes where none does."""
    return "ok" if "ok" in servers.values() else "; ".join(servers.values())


def _as_text(models: Mapping[str, str]) -> str:
    return "; ".join(f"{model}: {what}" for model, what in models.items()) or "ok"
