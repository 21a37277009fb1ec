"""What became of answers: labels, signals, verdicts and edits as given, and what the control API made of them."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from typing import Any

from .control import Request, parts_of, row_of
from .errors import BadInput, RowsRefused

__all__ = ["Edit", "Kept", "Label", "Rows", "Signal", "Tally", "Verdict", "feedback_requests"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """The right label of an answered prediction, or of a text of its own."""

    label: str
    prediction_id: str | None = None
    text: str | None = None
    key: str | None = None
    at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Signal:
    """What a user did with an item: click, rating (`value` is the stars), skip or dwell (`value` is seconds)."""

    item: str
    signal: str = "click"
    value: float | None = None
    prediction_id: str | None = None
    user: str | None = None
    at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What became of suggested replies.

    `verdict` is accepted, edited or own (`text` is what was sent), rejected, handed_over, solved or unsolved.
    """

    prediction_id: str
    verdict: str
    reply: str | None = None
    text: str | None = None
    intent: str | None = None
    at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Edit:
    """What was sent in place of an approved reply: of an answered request, or with the reply itself.

    `name` is whom it greets; the server keeps a variable in its place. Tone and language go with `approved` alone.
    """

    accepted: str
    prediction_id: str | None = None
    approved: str | None = None
    tone: str | None = None
    language: str | None = None
    name: str | None = None
    key: str | None = None
    at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What became of the rows; each is counted once."""

    new: int = 0
    corrected: int = 0
    confirmed: int = 0
    unchanged: int = 0
    stale: int = 0
    erased: int = 0

    def __add__(self, other: "Kept") -> "Kept":
        return Kept(**{one.name: getattr(self, one.name) + getattr(other, one.name) for one in fields(self)})


Rows = Sequence[Label | Signal | Verdict | Edit]
_PLACES = {
    Label: ("/v1/feedback", "labels"),
    Signal: ("/v1/signals", "signals"),
    Verdict: ("/v1/verdicts", "verdicts"),
    Edit: ("/v1/edits", "edits"),
}


def feedback_requests(model: str, rows: Rows) -> list[Request[Kept]]:
    """The requests that give all rows, which are of one kind.

    Raises:
        BadInput: they are of several kinds, or of none, or a row cannot be sent; none is sent then.
    """
    kinds = {type(row) for row in rows}
    if not rows:
        return []
    if len(kinds) > 1 or not kinds <= _PLACES.keys():
        raise BadInput(f"rows are {sorted(kind.__name__ for kind in kinds)}; give Labels, Signals, Verdicts or Edits")
    path, name = _PLACES[kinds.pop()]
    return [
        Request(
            method="POST",
            path=path,
            body={"model": model, name: part},
            read=_kept,
            first_row=first,
        )
        for first, part in parts_of([row_of(asdict(row)) for row in rows])
    ]


class Tally:
    """What became of rows that went in several requests: one that has refused rows holds up none of the others."""

    def __init__(self) -> None:
        self._kept = Kept()
        self._refusals: list[RowsRefused] = []
        self._rows: list[dict[str, Any]] = []

    def add(self, kept: Kept) -> None:
        """Count the rows of one request."""
        self._kept += kept

    @contextmanager
    def noting_refused(self, request: Request[Kept]) -> Iterator[None]:
        """Note the rows that one request was refused, by their numbers among all."""
        try:
            yield
        except RowsRefused as error:
            self._refusals.append(error)
            self._rows += [{**row, "row": row.get("row", 0) + request.first_row} for row in error.rows]

    def total(self) -> Kept:
        """The counts of all requests.

        Raises:
            RowsRefused: some rows were refused; all others are kept.
        """
        if self._refusals:
            told = "; ".join(str(error) for error in self._refusals)
            raise RowsRefused(told, self._refusals[0].status, self._rows) from self._refusals[0]
        return self._kept


def _kept(answer: Any) -> Kept:
    return Kept(**{one.name: int(answer[one.name]) for one in fields(Kept)})
