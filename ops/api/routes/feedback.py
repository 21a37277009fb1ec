"""Labels over HTTP."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, Protocol, TypeVar

from fastapi import Depends, FastAPI
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WithJsonSchema,
    WrapValidator,
)

from perennial.continual.errors import DataError, RowsRefused
from perennial.continual.preparation import shown
from perennial.continual.records import Example
from perennial.continual.tasks import DEFAULT_TASK
from perennial.ops.api.auth import NeedsSomewhere
from perennial.ops.api.models import known_or_only
from perennial.ops.ledger import FeedbackRow, Ledger
from perennial.ops.safety.roles import Caller, Role
from perennial.ops.store.feedback import (
    GivenLabel,
    add_labels,
    admit_given,
    check_takes,
    declared_attributes,
    known_labels,
)

__all__ = [
    "Feedback",
    "Kept",
    "Label",
    "LabelHearer",
    "Misshapen",
    "add_feedback",
    "admitted",
    "apart",
    "cause_of",
    "kept_or_refused",
    "optional",
]


Model = TypeVar("Model", bound=BaseModel)
T = TypeVar("T")


def optional(**schema: Any) -> WithJsonSchema:
    """What the document says of a text that may be left out."""
    return WithJsonSchema({"anyOf": [{"type": "string", **schema}, {"type": "null"}]})


_ATTRIBUTES = {"type": "object", "additionalProperties": {"type": "string", "maxLength": 60}}


class Label(BaseModel):
    """One label: for an answered prediction, or with its own text. The rule of the entrance checks its values."""

    model_config = ConfigDict(extra="forbid")

    label: Annotated[Any, WithJsonSchema({"type": "string", "minLength": 1, "maxLength": 200})]
    prediction_id: Annotated[Any, optional(pattern="^[0-9a-f]{32}$")] = None
    text: Annotated[Any, optional(minLength=1, maxLength=100_000)] = None
    key: Annotated[Any, optional(maxLength=256)] = None
    at: Annotated[Any, optional(format="date-time")] = None
    attributes: Annotated[Any, WithJsonSchema({"anyOf": [_ATTRIBUTES, {"type": "null"}]})] = Field(
        None, description="whose it is, by names that fairness.attributes declares"
    )


@dataclass(frozen=True, slots=True)
class Misshapen:
    """A row that is no object of the right shape."""

    cause: str


def apart(value: Any, handler: ValidatorFunctionWrapHandler) -> Any:
    """Let a row of the wrong shape be told with the others, and not end the reading of the body."""
    try:
        return handler(value)
    except ValidationError as error:
        return Misshapen(cause_of(error))


def cause_of(error: ValidationError) -> str:
    """Why a row has not the right shape; what stood there is not quoted."""
    return "; ".join(f"{shown('.'.join(map(str, e['loc'])) or 'row')}: {e['msg']}" for e in error.errors()[:5])


class Feedback(BaseModel):
    """Labels for one model."""

    model_config = ConfigDict(extra="forbid")

    model: str | None = Field(None, description="needed where there are several models")
    labels: list[Annotated[Label, WrapValidator(apart)]] = Field(min_length=1, max_length=10_000)


class Kept(BaseModel):
    """What became of the labels; each is counted once."""

    new: int
    corrected: int = Field(description="replaced an older label")
    confirmed: int = Field(description="repeated the label at a later time")
    unchanged: int = Field(description="were here already")
    stale: int = Field(description="came behind a newer label, which stays")
    erased: int = Field(description="belong to a person who was erased, and were not kept")


class LabelHearer(Protocol):
    """Who is told of labels when they are kept."""

    def labels_kept(self, model: str) -> None:
        """Have the model's loop look at them at once, and not at the next beat; harmless where it has none."""
        ...


def add_feedback(api: FastAPI, ledger: Ledger, control: LabelHearer) -> None:
    """Add the route: a labeller may write."""

    @api.post("/v1/feedback")
    def feedback(body: Feedback, caller: Annotated[Caller, Depends(NeedsSomewhere(Role.LABELLER))]) -> Kept:
        """Keep labels. Good rows are kept also where others are refused (422); sending all of them again is safe."""
        model = known_or_only(ledger, body.model, caller, Role.LABELLER)
        check_takes(ledger, model, DEFAULT_TASK)
        rows, refused = _admitted(ledger, model, body)
        counts = add_labels(ledger, model, rows)
        control.labels_kept(model)
        return kept_or_refused(counts, refused, of=len(body.labels), what="labels")


def admitted(rows: Sequence[Model | Misshapen], admit: Callable[[Model], T]) -> tuple[list[T], list[dict[str, object]]]:
    """What `admit` makes of the rows of a body, and those that are refused, each with its number and cause."""
    made: list[T] = []
    refused: list[dict[str, object]] = []
    for number, row in enumerate(rows):
        if isinstance(row, Misshapen):
            refused.append({"row": number, "cause": row.cause})
            continue
        try:
            made.append(admit(row))
        except DataError as error:
            refused.append({"row": number, "cause": str(error)})
    return made, refused


def kept_or_refused(kept: dict[str, int], refused: list[dict[str, object]], *, of: int, what: str) -> Kept:
    """What became of the rows that are kept.

    Raises:
        RowsRefused: others are refused.
    """
    if refused:
        raise RowsRefused(
            f"{len(refused)} of {of} {what} are refused and {of - len(refused)} are kept {kept}; correct the rows "
            f"named, and send them alone or all again",
            refused,
        )
    return Kept(**kept)


def _admitted(
    ledger: Ledger, model: str, body: Feedback
) -> tuple[list[FeedbackRow | Example], list[dict[str, object]]]:
    now, known = datetime.now(UTC), known_labels(ledger, model)
    declared = declared_attributes(ledger, model)
    return admitted(
        body.labels,
        lambda label: admit_given(GivenLabel(**dict(label)), known=known, now=now, attributes=declared),
    )
