"""Rewrites asked of the running server, piece by piece, with the house's errors."""

from collections.abc import Iterator

from perennial.client.errors import ClientError, Overloaded, TooLate, Unreachable
from perennial.client.rewrites import Rewritten
from perennial.client.streams import Piece, stream_rewrite
from perennial.continual.errors import DataError, DependencyUnreachable
from perennial.continual.tasks.generation import Rewrite
from perennial.ops.parts import Parts

__all__ = ["rewrite_stream"]


def rewrite_stream(parts: Parts, model: str, asked: Rewrite, *, key: str | None) -> Iterator[Piece | Rewritten]:
    """Pieces, and last the answer; the first of them is there when this returns.

    Raises:
        NotFound: there is no such model.
        DataError: it rewrites nothing, or refuses what is asked.
        DependencyUnreachable: nobody answers in time, or too many rewrites are being written.
    """
    settings = parts.workspace.model(model)
    if parts.workspace.stream_model(model) is None:
        raise DataError(f"model {model} is of task {settings.task!r}, which rewrites nothing; name one of generation")
    coming = _told(parts.controls[0].url, model, asked, key, settings.generation.deadline_s)
    first = next(coming)
    return _with_first(first, coming)


def _with_first(first: Piece | Rewritten, coming: Iterator[Piece | Rewritten]) -> Iterator[Piece | Rewritten]:
    yield first
    yield from coming


def _told(url: str, model: str, asked: Rewrite, key: str | None, within_s: float) -> Iterator[Piece | Rewritten]:
    try:
        yield from stream_rewrite(url, model, asked, key=key, timeout_s=within_s)
    except (Overloaded, Unreachable, TooLate) as exc:
        raise DependencyUnreachable(str(exc)) from exc
    except ClientError as exc:
        raise DataError(str(exc)) from exc
