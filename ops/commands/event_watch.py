"""What may be asked of a model's watch of events: its events, its alerts, a verdict on one, and its limit anew."""

from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np

from perennial.continual.errors import ConfigurationError, DataError
from perennial.continual.events import Calibrated, calibrate
from perennial.continual.preparation import admit_note
from perennial.ops.ledger.ports import Audit
from perennial.ops.store.alerts import LAST_NUMBER, Alert, Alerts, AlertState
from perennial.ops.store.headlines import EventRow, Headlines
from perennial.ops.store.private_file import rehearsed
from perennial.ops.store.workspace import Workspace

__all__ = [
    "LimitFound",
    "calibrate_limit",
    "judge_alert",
    "latest_alerts",
    "latest_events",
    "one_alert",
    "open_headlines",
]

_SHUFFLES, _LEAST_HEADLINES = 8, 1_000
_SEED = 7
_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitFound:
    """The limit, and what it was made of."""

    limit: float
    headlines_a_day: float
    false_alerts_a_day: float
    headlines: int


@contextmanager
def open_headlines(workspace: Workspace, model: str, *, dry_run: bool = False) -> Iterator[Headlines]:
    """The model's headlines; in a dry run a copy of them.

    Raises:
        ConfigurationError: its task watches none.
    """
    task = workspace.settings.task_of(model)
    if task != "opinion":
        raise ConfigurationError(f"model {model} is of task {task!r}; events and alerts are of task 'opinion'")
    path = workspace.headlines(model)
    with rehearsed(path) if dry_run else nullcontext(path) as file, closing(Headlines(file)) as headlines:
        yield headlines


def judge_alert(
    ledger: Audit,
    workspace: Workspace,
    model: str,
    number: int,
    state: AlertState,
    *,
    actor: str,
    note: str = "",
    dry_run: bool = False,
) -> Alert:
    """Confirm or dismiss an alert, or open it again; the weights of the risk are learnt anew from all verdicts.

    Raises:
        NotFound: there is no such alert.
        DataError: the note breaks its rule.
    """
    note = admit_note(note, field="note") if note else ""
    with open_headlines(workspace, model, dry_run=dry_run) as headlines:
        judged = Alerts(headlines.file).judge(number, state, by=actor, at=datetime.now(UTC), note=note)
    if not dry_run:
        facts = {"alert": number, "rule": judged.rule, "subject": judged.subject}
        ledger.audit(actor, f"alert.{state.value}", model, facts)
    return judged


def calibrate_limit(
    workspace: Workspace, model: str, *, false_alerts_per_day: float, dry_run: bool = False
) -> LimitFound:
    """Find the surprise that chance goes beyond so often a day, by shuffles of the latest headlines, and watch by it.

    Raises:
        DataError: there are too few headlines to tell.
    """
    with open_headlines(workspace, model, dry_run=dry_run) as headlines:
        plan = headlines.plan()
        burst = plan.events.burst
        items = headlines.items(last=2 * (burst.base + burst.recent))
        if len(items) < _LEAST_HEADLINES:
            raise DataError(
                f"{model} has {len(items)} headlines; at least {_LEAST_HEADLINES} are needed to calibrate its limit"
            )
        days = max((items[-1].at - items[0].at) / _DAY, 1 / 24)
        a_day = len(items) / days
        found: Calibrated = calibrate(
            items,
            plan.events,
            per_headline=min(0.02, false_alerts_per_day / a_day),
            shuffles=_SHUFFLES,
            rng=np.random.default_rng(_SEED),
        )
        headlines.limit_by(found.limit)
    return LimitFound(
        limit=found.limit,
        headlines_a_day=a_day,
        false_alerts_a_day=found.false_alarms_per_headline * a_day,
        headlines=len(items),
    )


def latest_events(
    workspace: Workspace, model: str, *, last: int = 50, before: tuple[datetime, str] | None = None
) -> list[EventRow]:
    """The latest events, the newest first; with `before`, those behind the one of this opening and name."""
    with open_headlines(workspace, model) as headlines:
        return headlines.events(now=datetime.now(UTC), last=last, before=before)


def latest_alerts(
    workspace: Workspace,
    model: str,
    *,
    state: AlertState | None = None,
    last: int = 100,
    before: int = LAST_NUMBER,
) -> list[Alert]:
    """The latest alerts, the newest first; with `before`, those of lower numbers."""
    with open_headlines(workspace, model) as headlines:
        return Alerts(headlines.file).all(state=state, last=last, before=before)


def one_alert(workspace: Workspace, model: str, number: int) -> Alert:
    """An alert by its number.

    Raises:
        NotFound: there is none.
    """
    with open_headlines(workspace, model) as headlines:
        return Alerts(headlines.file).one(number)
