"""Rewrites that people made or accepted: brought under the rule of the entrance, then kept."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime

from perennial.continual.errors import DataError, NotFound
from perennial.continual.identity import split_by
from perennial.continual.preparation import admit_key, admit_prediction_id, admit_text, admit_time
from perennial.continual.records import Origin
from perennial.continual.tasks.generation import AcceptedEdit, Generation
from perennial.continual.tasks.generation.task import anonymous
from perennial.ops.ledger import FeedbackRow
from perennial.ops.store.feedback.labels import COUNTED, LabelLedger, as_feedback
from perennial.ops.store.feedback.ways import check_takes

__all__ = ["GivenEdit", "add_edits", "admit_edit"]

_TASK = Generation()
_HOLDOUT_SHARE = 0.1  # where the ledger knows no other


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenEdit:
    """One accepted text as it came from outside, unchecked: of an answered request, or with its approved reply.

    `name` is whom it greets. Tone and language are those of the request where there is one.
    """

    accepted: object
    prediction_id: object = None
    approved: object = None
    tone: object = None
    language: object = None
    name: object = None
    key: object = None
    at: object = None


def admit_edit(given: GivenEdit, *, now: datetime) -> FeedbackRow | AcceptedEdit:
    """What the ledger keeps of an edit: a feedback row where it belongs to a request, else a row to learn from.

    Raises:
        DataError: a field breaks its rule, or there is not exactly one of prediction id and approved reply.
    """
    if (given.prediction_id is None) == (given.approved is None):
        raise DataError("one of prediction_id and approved is needed, and not both; send the one that was rewritten")
    manners = {name: admit_key(getattr(given, name), field=name) for name in ("tone", "language", "name")}
    if given.prediction_id is None:
        fields = {name: value for name, value in asdict(given).items() if value is not None}
        return _TASK.read_row({**fields, **manners, "origin": Origin.FEEDBACK.value}, now=now)
    if manners["tone"] or manners["language"]:
        raise DataError("tone and language are those of the request that prediction_id names; leave them out")
    return FeedbackRow(
        prediction_id=admit_prediction_id(given.prediction_id),
        label=anonymous(admit_text(given.accepted, field="accepted").text, manners["name"] or ""),
        at=admit_time(given.at, now=now),
        key=admit_key(given.key),
    )


def add_edits(ledger: LabelLedger, model: str, rows: Sequence[FeedbackRow | AcceptedEdit]) -> dict[str, int]:
    """Keep edits of both kinds in one transaction, and count what became of them by the names that feedback has.

    Raises:
        NotFound: the ledger does not know the model.
        DataError: it is of a task that takes no edits.
    """
    check_takes(ledger, model, _TASK.name)
    settings = {row.name: row.settings for row in ledger.models()}
    if model not in settings:
        raise NotFound(f"model {model!r} is not in the ledger; it knows {', '.join(settings) or 'none'}")
    share = float(settings[model].get("learning", {}).get("holdout_share", _HOLDOUT_SHARE))
    edits = [row for row in rows if isinstance(row, AcceptedEdit)]
    with ledger.transaction():
        kept = asdict(ledger.add_feedback(model, [row for row in rows if isinstance(row, FeedbackRow)]))
        added = ledger.add_examples(model, edits, lambda asked: split_by(_TASK.identity(asked), holdout_share=share))
    added_rows = as_feedback(asdict(added))
    return {name: kept[name] + added_rows[name] for name in COUNTED}
