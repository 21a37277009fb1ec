"""The one shape of every error that the control API answers with: RFC 9457 problem details, plus two members."""

import json
import logging
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import Scope

from perennial.continual.errors import (
    DependencyUnreachable,
    IllegalTransition,
    InputError,
    LeaseLost,
    NotFound,
    Overtaken,
    PerennialError,
    Refused,
)
from perennial.ops.api.pages import Pages
from perennial.ops.ledger import Conflict

__all__ = ["PROBLEM", "Problem", "answer_to", "problem", "problem_of", "translate_errors"]

PROBLEM = "application/problem+json"
_RETRY_S = "5"
_MOST_CHARACTERS = 2_000
_MOST_ROWS = 10_000  # all of a body: the caller corrects the rows named
_MOST_CAUSES = 20

_STATUS: tuple[tuple[type[PerennialError], int], ...] = (
    (NotFound, 404),
    (Conflict, 409),
    (Overtaken, 412),
    (Refused, 409),
    (IllegalTransition, 409),
    (InputError, 422),
    (DependencyUnreachable, 503),
    (LeaseLost, 503),
)
logger = logging.getLogger(__name__)


class Problem(Response):
    """An error as `application/problem+json`; whatever characters it quotes, it can be encoded."""

    media_type = PROBLEM

    def render(self, content: Any) -> bytes:
        """ASCII only: a quoted lone surrogate has no UTF-8."""
        return json.dumps(content).encode("ascii")


def problem(
    status: int,
    error: str,
    detail: str,
    *,
    rows: Sequence[Mapping[str, Any]] = (),
    headers: Mapping[str, str] | None = None,
) -> Problem:
    """An error with `error` as its kind, and the rows that caused it where there are any."""
    content: dict[str, Any] = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "error": error,
        "detail": _cut(detail),
    }
    if rows:
        content["rows"] = [dict(row) for row in rows[:_MOST_ROWS]]
    retry = {"Retry-After": _RETRY_S} if status == HTTPStatus.SERVICE_UNAVAILABLE else {}
    return Problem(content, status_code=status, headers={**retry, **(headers or {})})


def problem_of(error: Exception) -> Problem:
    """What a caller is told of an error: of one that we did not foresee, nothing but that it is in the log."""
    if isinstance(error, PerennialError):
        status = next((code for kind, code in _STATUS if isinstance(error, kind)), 500)
        return problem(status, type(error).__name__, str(error), rows=getattr(error, "rows", ()))
    if isinstance(error, RequestValidationError):
        return _invalid(error)
    if isinstance(error, HTTPException):
        name = "".join(word.capitalize() for word in HTTPStatus(error.status_code).phrase.split())
        return problem(error.status_code, name, str(error.detail), headers=error.headers)
    logger.error("api.failed", exc_info=error)
    return problem(500, "InternalError", "the request failed for a reason of the server's own; its log tells which")


def answer_to(error: Exception, scope: Scope, pages: Pages | None) -> Response:
    """Return the error as its caller reads it: as a page where a browser asked for one."""
    told = problem_of(error)
    if pages is None or not pages.covers(scope["path"]) or "text/html" not in Headers(scope=scope).get("accept", ""):
        return told
    return pages.told(scope, told.status_code, json.loads(bytes(told.body))["detail"])


def translate_errors(api: FastAPI, pages: Pages | None = None) -> None:
    """Give every error of the application the one shape."""

    async def translate(request: Request, error: Exception) -> Response:
        return answer_to(error, request.scope, pages)

    for kind in (PerennialError, RequestValidationError, HTTPException):
        api.add_exception_handler(kind, translate)


def _invalid(error: RequestValidationError) -> Problem:
    """A 422 that names each place and its cause, but never quotes what stood there: that may be somebody's text."""
    causes, rows = [], []
    for wrong in error.errors():
        place = [str(step)[:100] for step in wrong["loc"]]
        cause = str(wrong["msg"])
        causes.append(f"{'.'.join(place)}: {cause}")
        numbers = [step for step in wrong["loc"][1:] if isinstance(step, int)]
        if wrong["loc"][0] == "body" and numbers and wrong["type"] != "json_invalid":
            rows.append({"row": numbers[0], "cause": _cut(f"{place[-1]}: {cause}", 300)})
    return problem(422, "DataError", "; ".join(causes[:_MOST_CAUSES]), rows=rows)


def _cut(text: str, most: int = _MOST_CHARACTERS) -> str:
    return text if len(text) <= most else text[: most - 3] + "..."
