"""One request to the control API over HTTP: how it is written, and what its errors mean."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, Generic, TypeVar

from .errors import BadInput, ClientError, NotAllowed, NotFound, Overloaded, Refused, RowsRefused, TooLate, Unreachable

__all__ = ["Request", "answer_of", "control_errors", "headers_of", "parts_of", "row_of"]

T = TypeVar("T")
ROWS_AT_ONCE = 10_000  # labels, signals or verdicts in one body
BYTES_AT_ONCE = 8 * 2**20  # of them; by default the API reads bodies of twice as many
_BUSY = frozenset({429, 502, 503, 504})


@dataclass(frozen=True, slots=True, kw_only=True)
class Request(Generic[T]):
    """One request, and what makes a record of its JSON answer. `also` are further statuses that carry one.

    `first_row` is the number, among all rows that were given, of the first one in its body.
    """

    method: str
    path: str
    read: Callable[[Any], T]
    body: Mapping[str, Any] | None = None
    also: frozenset[int] = frozenset()
    first_row: int = 0


def headers_of(token: str | None) -> dict[str, str]:
    """What every request carries."""
    return {"Accept": "application/json"} | ({} if token is None else {"Authorization": f"Bearer {token}"})


def row_of(given: Mapping[str, Any], *, now: datetime | None = None) -> dict[str, Any]:
    """A row as it is sent. One without a time gets this one: sent twice, it changes nothing the second time.

    Raises:
        BadInput: its time has no zone.
    """
    row = {name: value for name, value in given.items() if value is not None}
    at = row.get("at") or now or datetime.now(timezone.utc)  # noqa: UP017
    if at.tzinfo is None:
        raise BadInput(f"the time {at.isoformat()} has no time zone; give an aware one, e.g. datetime.now(UTC)")
    return row | {"at": at.isoformat()}


def answer_of(request: Request[T], url: str, status: int, headers: Mapping[str, str], body: bytes) -> T:
    """What the request asked for.

    Raises:
        ClientError: the answer is an error, or cannot be read.
    """
    what = f"{request.method} {request.path} at {url}"
    try:
        document = json.loads(body)
    except ValueError:
        document = None
    if 200 <= status < 300 or status in request.also:
        try:
            return request.read(document)
        except (KeyError, TypeError, ValueError) as exc:
            raise Refused(f"{what}: the answer is none of this API ({exc!r}); is the address right?") from exc
    raise _meaning(status, headers, document if isinstance(document, dict) else {}, what)


def _meaning(status: int, headers: Mapping[str, str], problem: Mapping[str, Any], what: str) -> ClientError:
    detail = str(problem.get("detail") or problem.get("title") or "it says nothing more")
    if status in _BUSY:
        return Overloaded(f"{what}: it cannot answer now (status {status}): {detail}", _seconds(headers))
    if status in {401, 403}:
        return NotAllowed(f"{what}: {detail} (status {status}); make a token with `perennial token new`")
    if status == 404:
        return NotFound(f"{what}: {detail}")
    if rows := problem.get("rows"):
        return RowsRefused(f"{what}: {detail}", str(status), rows)
    return Refused(f"{what}: it refuses (status {status}): {detail}", str(status))


def _seconds(headers: Mapping[str, str]) -> float | None:
    try:
        return max(0.0, float(headers.get("retry-after", "")))
    except ValueError:
        return None


@contextmanager
def control_errors(url: str, request: Request[Any]) -> Iterator[None]:
    """Turn errors of the connection into this package's."""
    import httpx

    what = f"{request.method} {request.path} at {url}"
    try:
        yield
    except httpx.ConnectTimeout as exc:
        raise Unreachable(f"{what}: nobody answers in time; is `perennial serve` running there?") from exc
    except (httpx.TimeoutException, TimeoutError) as exc:
        raise TooLate(f"{what}: no answer came in time; give the call a longer timeout_s") from exc
    except httpx.TransportError as exc:
        raise Unreachable(f"{what}: {exc or type(exc).__name__}; is `perennial serve` running there?") from exc
    except (httpx.InvalidURL, UnicodeEncodeError) as exc:
        raise BadInput(f"{what}: the address cannot be used ({exc}); give e.g. http://127.0.0.1:8080") from exc


def parts_of(rows: Sequence[Mapping[str, Any]]) -> list[tuple[int, list[Mapping[str, Any]]]]:
    """The rows in parts of one body each, each part with the number of its first row.

    Raises:
        BadInput: a row has no JSON in UTF-8.
    """
    parts: list[tuple[int, list[Mapping[str, Any]]]] = []
    size = 0
    for number, row in enumerate(rows):
        size += (own := _bytes_of(number, row))
        if not parts or len(parts[-1][1]) == ROWS_AT_ONCE or size > BYTES_AT_ONCE:
            parts.append((number, []))
            size = own
        parts[-1][1].append(row)
    return parts


def _bytes_of(number: int, row: Mapping[str, Any]) -> int:
    try:
        return len(json.dumps(row, ensure_ascii=False, allow_nan=False).encode())
    except UnicodeEncodeError as exc:
        raise BadInput(f"row {number} holds half of a surrogate pair ({exc.reason}); send UTF-8 text") from exc
    except (TypeError, ValueError) as exc:
        raise BadInput(f"row {number} cannot be sent: {exc}") from exc
