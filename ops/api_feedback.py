"""Labels over HTTP."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import Depends, FastAPI
from pydantic import BaseModel, ConfigDict, Field

from continual.errors import DataError, NotFound
from continual.records import Example, Origin
from ops.feedback import add_labelled
from ops.ledger import FeedbackRow, Ledger

__all__ = ["Feedback", "Label", "add_feedback"]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Label(_Body):
    """One label: for an answered prediction, or with its own text."""

    label: str = Field(min_length=1, max_length=200)
    prediction_id: str | None = Field(None, max_length=100)
    text: str | None = Field(None, max_length=100_000)
    key: str | None = Field(None, max_length=500)
    at: datetime | None = None


class Feedback(_Body):
    """Labels for one model."""

    model: str = "intent"
    labels: list[Label] = Field(min_length=1, max_length=10_000)


def add_feedback(api: FastAPI, ledger: Ledger, labeller: Callable[..., str]) -> None:
    """Add the route: a labeller may write."""

    @api.post("/v1/feedback")
    def feedback(body: Feedback, actor: Annotated[str, Depends(labeller)]) -> dict[str, Any]:
        del actor
        _known(ledger, body.model)
        now = datetime.now(UTC)
        rows, examples = [], []
        for number, label in enumerate(body.labels):
            if (label.prediction_id is None) == (label.text is None):
                raise DataError(f"label {number} needs a prediction_id or a text, and not both")
            at = label.at or now
            if at.tzinfo is None:
                raise DataError(f"label {number} has time {at.isoformat()} without a zone; give UTC, e.g. {at}Z")
            if label.prediction_id is not None:
                rows.append(FeedbackRow(prediction_id=label.prediction_id, label=label.label, at=at, key=label.key))
            elif label.text is not None:
                examples.append(
                    Example(text=label.text, label=label.label, at=at, origin=Origin.FEEDBACK, key=label.key)
                )
        receipt = ledger.add_feedback(body.model, rows)
        added = add_labelled(ledger, body.model, examples)
        return {
            "new": receipt.new + added["added"],
            "corrected": receipt.corrected + added["relabelled"],
            "unchanged": receipt.unchanged + receipt.stale + added["unchanged"],
        }


def _known(ledger: Ledger, model: str) -> None:
    known = [row.name for row in ledger.models()]
    if model not in known:
        raise NotFound(f"model {model!r} is not known; there are {', '.join(known) or 'none'}")
