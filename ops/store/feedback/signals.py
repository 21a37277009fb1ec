"""Signals of users about items: kept in the ledger for the next training, and with the user for the next answer."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol

from perennial.continual.errors import DataError
from perennial.continual.identity import split_by
from perennial.continual.preparation import admit_key, admit_prediction_id, admit_time, shown
from perennial.continual.records import Origin
from perennial.continual.tasks import task_named
from perennial.continual.tasks.ranking import Ranking
from perennial.ops.ledger import FeedbackRow
from perennial.ops.ledger.ports import ErasedRows, ExampleSink, PendingLabels, Transactions
from perennial.ops.store.feedback.labels import COUNTED, as_feedback
from perennial.ops.store.traffic_of import traffic_of
from perennial.ops.store.workspace import Workspace

if TYPE_CHECKING:
    from perennial.continual.learning.ranking import Event

__all__ = ["AdmittedSignal", "GivenSignal", "SignalLedger", "add_signals", "admit_signal", "remember_events"]


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenSignal:
    """One signal as it came from outside, unchecked: of an answered prediction, or of a user who was asked nothing."""

    item: object
    signal: object = "click"
    value: object = None
    prediction_id: object = None
    user: object = None
    at: object = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AdmittedSignal:
    """One signal by the rule of the entrance. The user is unknown where only the prediction was named."""

    item: str
    liked: float
    at: datetime
    prediction_id: str | None
    user: str | None
    origin: Origin = Origin.FEEDBACK


class SignalLedger(ErasedRows, ExampleSink, PendingLabels, Transactions, Protocol):
    """Where signals are kept for the next training."""


def admit_signal(
    given: GivenSignal, *, now: datetime, origin: Origin = Origin.FEEDBACK, without_zone_is_utc: bool = False
) -> AdmittedSignal:
    """A signal as it may be kept.

    Raises:
        DataError: a field breaks its rule, or there is neither prediction id nor user.
    """
    from perennial.continual.learning.ranking import Signal, liking
    from perennial.continual.learning.ranking.files import admit_item

    user = admit_key(given.user, field="user")
    if given.prediction_id is None and user is None:
        raise DataError(
            "prediction_id or user is needed; send the PREDICTION_ID that came with the answer, or the user"
        )
    try:
        signal = Signal(given.signal) if isinstance(given.signal, str) else None
    except ValueError:
        signal = None
    if signal is None:
        raise DataError(f"signal is {shown(given.signal)}; use one of {', '.join(Signal)}")
    if given.value is not None and (isinstance(given.value, bool) or not isinstance(given.value, int | float)):
        raise DataError(f"value is {shown(given.value)}; give a number")
    return AdmittedSignal(
        item=admit_item(given.item),
        liked=liking(signal, given.value),
        at=admit_time(given.at, now=now, without_zone_is_utc=without_zone_is_utc),
        prediction_id=None if given.prediction_id is None else admit_prediction_id(given.prediction_id),
        user=user,
        origin=origin,
    )


def add_signals(
    ledger: SignalLedger, workspace: Workspace, model: str, signals: Sequence[AdmittedSignal]
) -> dict[str, int]:
    """Keep signals in the ledger, in one transaction, and with their users, and count what became of them.

    A user whose request is not in the traffic log yet is known once it is: the collector adds the events then.
    """
    from perennial.continual.learning.ranking import impressions_of

    known = _known(workspace, model, signals)
    task, share = task_named(Ranking.name), workspace.model(model).learning.holdout_share
    alone = impressions_of((one.event for one in known if one.signal.prediction_id is None), origin=Origin.FEEDBACK)
    with ledger.transaction():
        kept = asdict(
            ledger.add_feedback(model, [one.feedback for one in known if one.signal.prediction_id is not None])
        )
        added = asdict(
            ledger.add_examples(model, alone, lambda asked: split_by(task.identity(asked), holdout_share=share))
        )
    events = [(one.event, one.signal.prediction_id) for one in known if one.user is not None]
    remember_events(ledger, workspace, model, events)
    from_examples = as_feedback(added)
    return {name: kept[name] + from_examples[name] for name in COUNTED}


def remember_events(
    ledger: ErasedRows, workspace: Workspace, model: str, events: "Sequence[tuple[Event, str | None]]"
) -> None:
    """Let the next answer know of events, each given with its prediction; those of erased users are left out.

    The ledger is asked before and after: a user who is erased meanwhile is forgotten again.
    """
    from perennial.ops.store.user_events import UserEvents

    marks = [(event.user, prediction, event.at) for event, prediction in events]
    allowed = [pair for pair, gone in zip(events, ledger.erased_among(model, marks), strict=True) if not gone]
    if not allowed:
        return
    with UserEvents(workspace.user_events(model)) as users:
        users.add(event for event, _ in allowed)
        marks = [(event.user, prediction, event.at) for event, prediction in allowed]
        gone = zip(allowed, ledger.erased_among(model, marks), strict=True)
        for user in sorted({event.user for (event, _), erased in gone if erased}):
            users.erase(user)


@dataclass(frozen=True, slots=True)
class _Known:
    """A signal, and its user where somebody knows."""

    signal: AdmittedSignal
    user: str | None

    @property
    def event(self) -> "Event":
        from perennial.continual.learning.ranking import Event

        return Event(user=self.user or "", item=self.signal.item, at=self.signal.at, liked=self.signal.liked)

    @property
    def feedback(self) -> FeedbackRow:
        """What the ledger keeps until the request is found."""
        return FeedbackRow(
            prediction_id=self.signal.prediction_id or "",
            label=Ranking().write_target({self.signal.item: self.signal.liked}),
            at=self.signal.at,
            origin=self.signal.origin,
            key=self.user,
        )


def _known(workspace: Workspace, model: str, signals: Sequence[AdmittedSignal]) -> list[_Known]:
    """The signals with their users; who was answered by a prediction stands in the traffic log, if not yet at once."""
    ids = [one.prediction_id for one in signals if one.prediction_id is not None and one.user is None]
    users: dict[str, str] = {}
    if ids:
        found = traffic_of(workspace, model).lookup(ids, columns=["prediction_id", "user"])
        rows: list[dict[str, Any]] = found.to_pylist()
        users = {row["prediction_id"]: row["user"] for row in rows}
    return [_Known(one, one.user or users.get(one.prediction_id or "")) for one in signals]
