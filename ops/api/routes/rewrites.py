"""Rewrites over HTTP, sent while they are written, as server-sent events."""

import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import asdict
from typing import Annotated, Protocol

from fastapi import Depends, FastAPI
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from perennial.client.rewrites import Rewritten
from perennial.client.streams import Piece
from perennial.continual.errors import PerennialError
from perennial.continual.tasks.generation import Rewrite
from perennial.ops.api.auth import labeller

__all__ = ["AskedRewrite", "Teller", "add_rewrites"]

_Manner = Annotated[str, Field(max_length=80)]


class Teller(Protocol):
    """What the route needs of the running service."""

    async def rewrite(self, model: str, asked: Rewrite, *, key: str | None) -> AsyncGenerator[Piece | Rewritten, None]:
        """Pieces of a rewrite, and last the answer; the first of them is there when this returns."""
        ...


class AskedRewrite(BaseModel):
    """An approved reply, and how it is to be told."""

    model_config = ConfigDict(extra="forbid")

    approved: Annotated[str, Field(min_length=1, max_length=20_000)]
    tone: _Manner = ""
    language: _Manner = ""
    name: _Manner = ""
    key: Annotated[str | None, Field(max_length=256)] = None


def add_rewrites(api: FastAPI, teller: Teller) -> None:
    """Add the route."""

    @api.post(
        "/v1/models/{model}/rewrites",
        dependencies=[Depends(labeller)],
        response_class=StreamingResponse,
        responses={200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}}},
    )
    async def rewrites(model: str, asked: AskedRewrite) -> StreamingResponse:
        """Tell an approved reply in another tone; pieces come as server-sent events, and the whole comes last."""
        rewrite = Rewrite(approved=asked.approved, tone=asked.tone, language=asked.language, name=asked.name)
        coming = await teller.rewrite(model, rewrite, key=asked.key)
        return StreamingResponse(_events(coming), media_type="text/event-stream", headers={"Cache-Control": "no-store"})


async def _events(coming: AsyncGenerator[Piece | Rewritten, None]) -> AsyncIterator[str]:
    """`piece` while it is written, then `answer`, which alone counts; `error` where it breaks off."""
    try:
        async with aclosing(coming):  # a caller who leaves ends it here
            async for each in coming:
                name = "piece" if isinstance(each, Piece) else "answer"
                yield _event(name, {k: v for k, v in asdict(each).items() if v is not None})
    except PerennialError as exc:
        yield _event("error", {"message": str(exc)})


def _event(name: str, data: dict[str, object]) -> str:
    return f"event: {name}\ndata: {json.dumps(data, ensure_ascii=False)}\n\n"
