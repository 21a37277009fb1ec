"""A stream of labels: as many as there are, in little memory, with progress, and begun again where it broke off."""

import json
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Query, Request
from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from perennial.continual.errors import DataError, PerennialError
from perennial.continual.tasks import DEFAULT_TASK
from perennial.ops.api.auth import labeller
from perennial.ops.api.guard import STREAMS
from perennial.ops.api.models import check_known
from perennial.ops.api.records import CSV, NDJSON, Record, records_of
from perennial.ops.api.routes.feedback import Label, Misshapen, admitted, cause_of
from perennial.ops.ledger import Ledger
from perennial.ops.store.feedback import (
    GivenLabel,
    add_labels,
    admit_given,
    check_takes,
    declared_attributes,
    known_labels,
)

__all__ = ["add_bulk"]

_ROWS = 2_000  # in one transaction
_EVERY_S = 1.0
_MOST_LINES = 300  # of progress; a caller that reads no answer before it has sent all must not be blocked by it
_MOST_CAUSES = 100
_DOCUMENT: Mapping[str, Any] = {
    STREAMS: True,
    "requestBody": {
        "required": True,
        "content": {
            NDJSON: {"schema": {"type": "string"}, "example": '{"prediction_id": "0198...", "label": "lost_card"}\n'},
            CSV: {"schema": {"type": "string"}, "example": "text,label\nmy card is gone,lost_card\n"},
        },
    },
    "responses": {
        "200": {"description": "progress, one JSON object a line", "content": {NDJSON: {"schema": {"type": "string"}}}}
    },
}


def add_bulk(api: FastAPI, ledger: Ledger) -> None:
    """Add the route: a labeller may write."""

    @api.post("/v1/models/{model}/feedback", openapi_extra=dict(_DOCUMENT), response_class=StreamingResponse)
    async def stream(
        model: str,
        request: Request,
        actor: Annotated[str, Depends(labeller)],
        skip: Annotated[int, Query(ge=0, lt=2**53, description="rows of this body that were kept before")] = 0,
    ) -> StreamingResponse:
        """Keep labels, one a line, as `/v1/feedback` takes them.

        The answer is one JSON object a line: `{"row": 7, "cause": ...}` for the first refused rows, progress with the
        `rows` that are kept for good or refused, and a last line with `done`. Where it breaks off, send the same body
        again with `skip`, or all of it: nothing is kept twice.
        """
        del actor
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind not in {NDJSON, CSV}:
            raise DataError(f"the body is {kind[:100]!r}; send {NDJSON}, or {CSV} with a header")
        await run_in_threadpool(_check, ledger, model)
        upload = _Upload(ledger, model, skip)
        return _Meanwhile(upload.answer(records_of(request.stream(), kind)), media_type=NDJSON)


def _check(ledger: Ledger, model: str) -> None:
    check_known(ledger, model)
    check_takes(ledger, model, DEFAULT_TASK)


class _Meanwhile(StreamingResponse):
    """An answer that comes while the body is read: the usual one listens for the caller's end, and hears the body."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the lines; whoever reads the body is told when the caller has gone."""
        del scope, receive
        await self.stream_response(send)


class _Upload:
    """What became of one body so far."""

    def __init__(self, ledger: Ledger, model: str, skip: int) -> None:
        self._ledger, self._model, self._skip = ledger, model, skip
        self._rows = self._refused = self._causes = self._lines = 0
        self._kept: dict[str, int] = {}
        self._told_at = time.monotonic()

    async def answer(self, records: AsyncIterator[Record]) -> AsyncIterator[bytes]:
        """The lines of the answer; they come while the body is read."""
        waiting: list[Record] = []
        try:
            async for record in records:
                if self._skip > 0:
                    self._skip, self._rows = self._skip - 1, self._rows + 1
                    continue
                waiting.append(record)
                if len(waiting) == _ROWS:
                    for line in await run_in_threadpool(self._keep, waiting):
                        yield line
                    waiting = []
            for line in await run_in_threadpool(self._keep, waiting):
                yield line
        except PerennialError as exc:
            told = {"done": False, "error": type(exc).__name__, "detail": str(exc), **self._so_far()}
            yield _line(told)
            return
        yield _line({"done": True, **self._so_far()})

    def _keep(self, records: list[Record]) -> list[bytes]:
        now, known = datetime.now(UTC), known_labels(self._ledger, self._model)
        given = [_label(record) for record in records]
        declared = declared_attributes(self._ledger, self._model)
        rows, refused = admitted(
            given, lambda label: admit_given(GivenLabel(**dict(label)), known=known, now=now, attributes=declared)
        )
        for name, count in add_labels(self._ledger, self._model, rows).items():
            self._kept[name] = self._kept.get(name, 0) + count
        first, self._rows, self._refused = self._rows, self._rows + len(records), self._refused + len(refused)
        return list(self._told(refused, first))

    def _told(self, refused: list[dict[str, object]], first: int) -> Iterator[bytes]:
        for one in refused[: max(0, _MOST_CAUSES - self._causes)]:
            self._causes += 1
            yield _line({"row": first + int(str(one["row"])), "cause": str(one["cause"])[:300]})
        if time.monotonic() - self._told_at >= _EVERY_S and self._lines < _MOST_LINES:
            self._told_at, self._lines = time.monotonic(), self._lines + 1
            yield _line(self._so_far())

    def _so_far(self) -> dict[str, Any]:
        return {"rows": self._rows, "refused": self._refused, "kept": self._kept}


def _label(record: Record) -> Label | Misshapen:
    if isinstance(record, str):
        return Misshapen(record)
    try:
        return Label.model_validate(record)
    except ValidationError as error:
        return Misshapen(cause_of(error))


def _line(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document).encode("ascii") + b"\n"
