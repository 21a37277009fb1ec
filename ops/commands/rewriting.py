"""Rewrites asked of the running server, piece by piece, with the house's errors."""

import asyncio
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, contextmanager

from perennial.client.errors import ClientError, Overloaded, TooLate, Unreachable
from perennial.client.rewrites import Rewritten
from perennial.client.streams import Piece, stream_rewrite_async
from perennial.continual.errors import DataError, DependencyUnreachable
from perennial.continual.tasks.generation import Rewrite
from perennial.ops.parts import Parts

__all__ = ["rewrite_stream"]

_TRIES, _PAUSE_S = 3, 0.3  # of a connection that a busy machine did not make in time

Told = AsyncGenerator[Piece | Rewritten, None]


async def rewrite_stream(parts: Parts, model: str, asked: Rewrite, *, key: str | None) -> Told:
    """Pieces, and last the answer; the first of them is there when this returns. No thread waits for them.

    Raises:
        NotFound: there is no such model.
        DataError: it rewrites nothing, or refuses what is asked.
        DependencyUnreachable: nobody answers in time, or too many rewrites are being written.
    """
    settings = parts.workspace.model(model)
    if parts.workspace.stream_model(model) is None:
        raise DataError(f"model {model} is of task {settings.task!r}, which rewrites nothing; name one of generation")
    end, tries = time.monotonic() + settings.generation.deadline_s, 0
    with _house_errors():
        while True:
            left_s = max(0.0, end - time.monotonic())
            coming = stream_rewrite_async(parts.controls[0].url, model, asked, key=key, timeout_s=left_s)
            try:
                return _with_first(await anext(coming), coming)
            except Unreachable as error:
                tries += 1
                if isinstance(error, TooLate) or tries == _TRIES:
                    raise
            await asyncio.sleep(_PAUSE_S)


async def _with_first(first: Piece | Rewritten, coming: Told) -> Told:
    with _house_errors():
        async with aclosing(coming):
            yield first
            async for each in coming:
                yield each


@contextmanager
def _house_errors() -> Iterator[None]:
    try:
        yield
    except (Overloaded, Unreachable) as exc:
        raise DependencyUnreachable(str(exc)) from exc
    except ClientError as exc:
        raise DataError(str(exc)) from exc
