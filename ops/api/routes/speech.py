"""Recordings over HTTP: their bytes in, what was understood and the model's answer out."""

from collections.abc import Mapping
from typing import Annotated, Any, Protocol

from fastapi import Depends, FastAPI, Query, Request
from starlette.concurrency import run_in_threadpool

from perennial.ops.api.auth import labeller
from perennial.ops.commands.speech import Spoken

__all__ = ["Hearer", "add_speech"]

_KINDS = ("audio/wav", "audio/flac", "audio/mpeg", "audio/ogg")
_RECORDING = {"schema": {"type": "string", "format": "binary"}}
_DOCUMENT: Mapping[str, Any] = {
    "requestBody": {"required": True, "content": dict.fromkeys(_KINDS, _RECORDING)},
}


class Hearer(Protocol):
    """What the route needs of the running service."""

    def hear(self, model: str, sent: bytes, *, key: str | None, language: str | None, caller: str) -> Spoken:
        """What is said in a recording, and the model's answer to it; callers take turns."""
        ...


def add_speech(api: FastAPI, hearer: Hearer) -> None:
    """Add the route: a labeller may ask."""

    @api.post("/v1/models/{model}/speech", openapi_extra=dict(_DOCUMENT))
    async def speech(
        model: str,
        request: Request,
        caller: Annotated[str, Depends(labeller)],
        key: Annotated[str | None, Query(max_length=256, description="whose words they are, for erasure")] = None,
        language: Annotated[
            str | None, Query(pattern="^[a-z]{2,3}$", description="that is spoken; default speech.language")
        ] = None,
    ) -> Spoken:
        """Understand a WAV, FLAC, MP3 or Ogg file of at most a minute, and ask the model about its words.

        The words are logged as a text's are, and can be labelled by the answer's `prediction_id`. The recording is
        kept nowhere. Its kind is known by its content, whatever the request calls it.
        """
        sent = await request.body()
        return await run_in_threadpool(hearer.hear, model, sent, key=key, language=language, caller=caller)
