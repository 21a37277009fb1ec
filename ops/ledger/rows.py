"""What the ledger takes and gives back: frozen rows, and the receipts of its writes."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import RowMapping

from perennial.continual.errors import DataError, PerennialError
from perennial.continual.records import Origin, Split, check_storable
from perennial.continual.task import KeptRow

__all__ = [
    "SERVING_STATES",
    "AttemptRow",
    "AuditEntry",
    "AuditVerdict",
    "CommandRow",
    "Conflict",
    "CycleRow",
    "DriftReportRow",
    "ErasureReceipt",
    "ExamplesReceipt",
    "FeedbackReceipt",
    "FeedbackRow",
    "Fence",
    "JobRow",
    "JobRunRow",
    "JoinOutcome",
    "JournalRow",
    "ModelRow",
    "NoticeRow",
    "PendingFeedback",
    "Phase",
    "RunOutcome",
    "StoredExample",
    "VersionRow",
    "VersionState",
    "kept_row",
    "version_card",
]

Json = Any
SERVING_STATES = ("probation", "promoted")  # of a cycle that is not closed yet: its challenger is the champion
_NOT_STORABLE = re.compile("[\0\ud800-\udfff]")


class Conflict(PerennialError):
    """Somebody else changed the row first; nothing was written. Read it again and decide anew."""


class VersionState(StrEnum):
    """Where a version stands in its life."""

    TRAINING = "training"
    EXPORTED = "exported"
    PUBLISHED = "published"
    RESIDENT = "resident"
    CHAMPION = "champion"
    RETIRED = "retired"
    REFUSED = "refused"
    FAILED = "failed"
    REMOVED = "removed"


class Phase(StrEnum):
    """Which side of a step a journal entry tells of."""

    INTENT = "intent"
    OUTCOME = "outcome"


class JoinOutcome(StrEnum):
    """What became of a feedback row that was taken to the traffic log."""

    JOINED = "joined"
    UNMATCHED = "unmatched"
    REFUSED = "refused"  # the request or the label breaks the rule of the entrance


class RunOutcome(StrEnum):
    """How a job's run ended."""

    DONE = "done"
    FAILED = "failed"
    MISSED = "missed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fence:
    """A leader's proof: its lease and the epoch at which it won it."""

    name: str
    epoch: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRow:
    """A registered model and its settings."""

    name: str
    settings: Mapping[str, Json]
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionRow:
    """One version: its state, where it came from and what was measured on it."""

    model: str
    version: int
    state: VersionState = VersionState.TRAINING
    parent: int | None = None
    cycle_id: int | None = None
    learner: str | None = None
    card: Mapping[str, Json] = field(default_factory=dict)  # see `version_card`
    metrics: Mapping[str, Json] = field(default_factory=dict)
    lineage: Mapping[str, Json] = field(default_factory=dict)
    bundle_sha256: str | None = None
    created_at: datetime | None = None  # set by the ledger when missing
    published_at: datetime | None = None
    state_at: datetime | None = None  # set by the ledger

    def __post_init__(self) -> None:
        if self.version < 1:
            raise DataError(f"{self.model} version {self.version} must be at least 1; ask next_version for a number")

    @property
    def labels(self) -> tuple[str, ...]:
        """What it can answer, where that is a label; none where its card tells of none."""
        return tuple(self.card.get("labels", ()))

    @property
    def corrects(self) -> int | None:
        """The version that an erasure made this one from: the same without the erased rows; None where none did."""
        return self.parent if "erased" in self.lineage else None

    @property
    def encoder_fingerprint(self) -> str | None:
        """Which encoder it has; None where its card tells of none."""
        fingerprint: str | None = self.card.get("encoder_fingerprint")
        return fingerprint


def version_card(*, labels: Iterable[str], encoder_fingerprint: str | None = None) -> dict[str, Json]:
    """What a version tells of itself, named as in its `model.json`.

    >>> version_card(labels=("fee", "refund"))
    {'labels': ['fee', 'refund']}
    """
    card: dict[str, Json] = {"labels": list(labels)}
    return card if encoder_fingerprint is None else card | {"encoder_fingerprint": encoder_fingerprint}


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedbackRow:
    """One label for one answered prediction. `at` is when the label was given, not when it arrived."""

    prediction_id: str
    label: str
    at: datetime
    origin: Origin = Origin.FEEDBACK
    key: str | None = None
    attributes: Mapping[str, Json] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        if not self.prediction_id:
            raise DataError(f"feedback with label {self.label!r} has an empty prediction id; send the id of the answer")
        if not self.label or self.label != self.label.strip():
            raise DataError(
                f"feedback for {self.prediction_id} has label {self.label!r}; it must be non-empty without outer spaces"
            )
        for name in ("prediction_id", "label", "key"):
            check_storable(f"a feedback row's {name}", getattr(self, name))
        if self.at.tzinfo is None:
            raise DataError(f"feedback for {self.prediction_id} has time {self.at} without a zone; give UTC")


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedbackReceipt:
    """What became of labels: each row is counted once.

    `corrected` replaced an older label, `confirmed` repeated it at a later time, `unchanged` were here already, and
    `stale` came behind a newer label, which stays. `erased` ones belong to a person who was erased; they were not kept.
    """

    new: int = 0
    corrected: int = 0
    confirmed: int = 0
    unchanged: int = 0
    stale: int = 0
    erased: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingFeedback:
    """A label that waits for its prediction; hand the same row to `mark_joined`."""

    id: int
    prediction_id: str
    label: str
    at: datetime
    received_at: datetime
    origin: Origin
    key: str | None
    revision: int
    waits_until: datetime | None = None  # the place in the order of waiting; None where it does not wait in the ledger
    attributes: Mapping[str, Json] = field(default_factory=dict, hash=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredExample:
    """An example, as the model's task makes it, with its row id, by which it is marked as learnt."""

    id: int
    example: Any
    split: Split


def kept_row(row: RowMapping) -> KeptRow:
    """A row of the database; what older releases let in is made readable, not refused."""
    cells = {name: row[name] for name in ("input", "target", "key", "prediction_id")}
    cells = {name: None if value is None else _NOT_STORABLE.sub("\ufffd", value) for name, value in cells.items()}
    attributes = row.get("attributes") or {}  # of examples alone: a buffer keeps none
    return KeptRow(**cells, at=row["at"], redacted=row["redacted"], origin=Origin(row["origin"]), attributes=attributes)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExamplesReceipt:
    """What became of examples: each row is counted once as added, relabelled, confirmed, unchanged or stale.

    `contradictions` counts the rows that disagreed with a stored label, whichever of the two won. `erased` rows belong
    to a person who was erased; they were not kept.
    """

    added: int = 0
    relabelled: int = 0
    confirmed: int = 0
    unchanged: int = 0
    stale: int = 0
    contradictions: int = 0
    erased: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class CycleRow:
    """One cycle. `payload` is the cycle's own state, opaque here; `outcome` is empty while it is active."""

    id: int
    model: str
    reason: str
    state: str
    payload: Json
    opened_at: datetime
    saved_at: datetime
    closed_at: datetime | None = None
    outcome: str | None = None
    note: str | None = None

    @property
    def hinders_erasure(self) -> bool:
        """Whether a person's rows cannot be erased now: a challenger may have learnt them that no erasure corrects."""
        return self.closed_at is None and self.state not in SERVING_STATES

    @property
    def on_probation(self) -> bool:
        """Whether its version serves and is only watched, which hinders nothing else: not the next cycle either."""
        return self.closed_at is None and self.state == "probation"


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptRow:
    """A closed cycle whose challenger was to learn in a champion's place: labels up to `last_example_id`.

    `gate_accepted` is None where it ended before the gate.
    """

    version: int
    last_example_id: int
    opened_at: datetime
    outcome: str
    gate_accepted: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalRow:
    """One side of one step of a cycle."""

    id: int
    cycle_id: int
    model: str
    step: str
    phase: Phase
    payload: Json
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftReportRow:
    """One measured comparison. `state` is the rule's word for it, e.g. ok, warning, alert."""

    model: str
    version: int
    at: datetime
    rows: int
    state: str
    payload: Json
    window_from: datetime | None = None
    window_to: datetime | None = None
    path: str | None = None
    id: int | None = None  # set by the ledger


def predictions_named(payload: Json) -> dict[str, str | None]:
    """The predictions that a drift report names: the columns by which an erasure finds it.

    >>> predictions_named({"after_id": "0a", "counting_from": {"at": "...", "id": "09"}})
    {'after_id': '0a', 'counting_id': '09'}
    """
    counting = payload.get("counting_from") or {}
    return {"after_id": payload.get("after_id"), "counting_id": counting.get("id")}


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEntry:
    """One link of the chain: who did what, and the hash over the link before it and this one."""

    seq: int
    at: datetime
    actor: str
    action: str
    model: str | None
    detail: Json
    previous: str
    hash: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditVerdict:
    """Whether the chain holds; else the first entry that does not, and why."""

    intact: bool
    entries: int
    broken_seq: int | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandRow:
    """An operator's request to the loop."""

    id: int
    model: str
    kind: str
    args: Mapping[str, Json]
    actor: str
    requested_at: datetime
    taken_at: datetime | None = None
    finished_at: datetime | None = None
    outcome: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ErasureReceipt:
    """How many rows of a person were removed, and which versions had learnt from them."""

    feedback: int
    examples: int
    buffer_rows: int
    versions: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRow:
    """A job's state of record."""

    name: str
    trigger: Mapping[str, Json]
    next_due: datetime
    paused: bool = False
    requested_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRunRow:
    """One run of one slot of a job. `attempt` grows when a leader died in it and the next one ran it again."""

    id: int
    job: str
    due: datetime
    attempt: int
    epoch: int
    started_at: datetime
    finished_at: datetime | None = None
    outcome: RunOutcome | None = None
    note: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NoticeRow:
    """One message of one episode on one channel."""

    model: str
    alert: str
    episode: str
    channel: str
    claimed_at: datetime
    attempts: int
    sent_at: datetime | None = None
    error: str | None = None
