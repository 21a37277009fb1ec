"""The client for asyncio: the same methods, awaited."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from functools import partial
from types import TracebackType
from typing import Any, TypeVar

from .control import Request, answer_of, control_errors
from .errors import ClientError
from .feedback import Edit, Kept, Label, Rows, Signal, Tally, Verdict, feedback_requests
from .inference import Call, grpc_outputs, inference_errors, outputs_of
from .opinions import Headline, Opinion
from .places import Places
from .questions import Questions, headline_of, message_of, rewrite_of
from .rankings import ListRequest, RankedList
from .replies import Message, SuggestedReplies
from .retry import Attempts
from .rewrites import Rewrite, Rewritten
from .status import ModelStatus, ServiceHealth, health_request, status_request
from .streams import Piece, stream_rewrite_async
from .texts import Prediction
from .trace import trace_headers

__all__ = ["AsyncClient"]

T = TypeVar("T")


class AsyncClient:
    """Asks one model, as `Client` does; belongs to the event loop in which it is first used.

    Args:
        model: its name.
        places: where the servers are; by default on this machine.
        rows_at_once: of many questions, so many go into one request.
    """

    def __init__(self, model: str, places: Places | None = None, *, rows_at_once: int = 64) -> None:
        self.model, self.places = model, places or Places()
        self._questions = Questions(rows_at_once=rows_at_once)
        self._grpc: Any = None
        self._http: Any = None

    async def __aenter__(self) -> "AsyncClient":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        grpc, http, self._grpc, self._http = self._grpc, self._http, None, None
        if grpc is not None:
            await grpc.close()
        if http is not None:
            await http.aclose()

    async def predict(
        self, text: str, *, key: str | None = None, scores: bool = False, known: bool = False
    ) -> Prediction:
        """The label of one text. `key` is a stable id of the caller, by which their rows can be erased."""
        return (await self.predict_many([text], keys=None if key is None else [key], scores=scores, known=known))[0]

    async def predict_many(
        self, texts: Sequence[str], *, keys: Sequence[str] | None = None, scores: bool = False, known: bool = False
    ) -> list[Prediction]:
        """The labels of texts, in order."""
        return await self._answers(self._questions.predictions(texts, keys, scores=scores, known=known))

    async def look(
        self, image: bytes, *, key: str | None = None, scores: bool = False, known: bool = False
    ) -> Prediction:
        """The label of one image, the bytes of a JPEG or PNG file; `key` as of `predict`."""
        return (await self.look_many([image], keys=None if key is None else [key], scores=scores, known=known))[0]

    async def look_many(
        self, images: Sequence[bytes], *, keys: Sequence[str] | None = None, scores: bool = False, known: bool = False
    ) -> list[Prediction]:
        """The labels of images, in order."""
        return await self._answers(self._questions.images(images, keys, scores=scores, known=known))

    async def rank(self, user: str, *, count: int = 10, context: str = "", withheld: Sequence[str] = ()) -> RankedList:
        """A list for a user; `rank_many` takes what else a list is asked for with."""
        asked = ListRequest(user=user, count=count, context=context, withheld=tuple(withheld))
        return (await self.rank_many([asked]))[0]

    async def rank_many(self, asked: Sequence[ListRequest], *, propensities: bool = False) -> list[RankedList]:
        """Lists for users, in order."""
        return await self._answers(self._questions.lists(asked, propensities=propensities))

    async def reply(self, message: str | Message, *, further: bool = False) -> SuggestedReplies:
        """The approved replies that fit a message; `further` asks for reasons, scores and `known` too."""
        return (await self.reply_many([message], further=further))[0]

    async def reply_many(
        self, messages: Sequence[str | Message], *, keys: Sequence[str] | None = None, further: bool = False
    ) -> list[SuggestedReplies]:
        """The replies for messages, in order."""
        asked = [message_of(each) for each in messages]
        return await self._answers(self._questions.replies(asked, keys, further=further))

    async def rewrite(self, reply: str | Rewrite, *, key: str | None = None, further: bool = False) -> Rewritten:
        """An approved reply in a tone, greeting somebody; `further` asks for what was written, let through or not."""
        return (await self.rewrite_many([reply], keys=None if key is None else [key], further=further))[0]

    async def rewrite_many(
        self, replies: Sequence[str | Rewrite], *, keys: Sequence[str] | None = None, further: bool = False
    ) -> list[Rewritten]:
        """Approved replies told in their manners, in order."""
        asked = [rewrite_of(each) for each in replies]
        return await self._answers(self._questions.rewrites(asked, keys, further=further))

    async def stream_rewrite(
        self, reply: str | Rewrite, *, key: str | None = None
    ) -> AsyncGenerator[Piece | Rewritten, None]:
        """Pieces of a rewrite as they are written, and last the answer, which alone counts.

        It is tried again where no piece has come yet. Whoever stops reading closes it (`contextlib.aclosing`), and the
        server stops writing.
        """
        attempts, coming = self.places.attempts(), None
        while coming is None:
            begun = self._stream(rewrite_of(reply), key, attempts.left_s())
            try:
                first, coming = await anext(begun), begun
            except ClientError as error:
                await asyncio.sleep(attempts.pause_after(error))
        async with aclosing(coming):
            yield first
            async for each in coming:
                yield each

    async def opinion(self, headline: str | Headline, *, further: bool = False) -> Opinion:
        """What a headline says; `further` asks for symbols, scores and `known` too."""
        return (await self.opinion_many([headline], further=further))[0]

    async def opinion_many(
        self, headlines: Sequence[str | Headline], *, keys: Sequence[str] | None = None, further: bool = False
    ) -> list[Opinion]:
        """What headlines say, in order."""
        asked = [headline_of(each) for each in headlines]
        return await self._answers(self._questions.opinions(asked, keys, further=further))

    async def feedback(self, labels: Sequence[Label]) -> Kept:
        """Give labels. Rows that break a rule are named by the error `RowsRefused`, and the others are kept."""
        return await self._kept(labels)

    async def signals(self, signals: Sequence[Signal]) -> Kept:
        """Tell what users did with items."""
        return await self._kept(signals)

    async def verdicts(self, verdicts: Sequence[Verdict]) -> Kept:
        """Tell what became of suggested replies."""
        return await self._kept(verdicts)

    async def edits(self, edits: Sequence[Edit]) -> Kept:
        """Give texts that were sent in place of approved replies, for rewrites to come nearer to them."""
        return await self._kept(edits)

    async def status(self) -> ModelStatus:
        """How the model is."""
        return await self._asked(status_request(self.model))

    async def health(self) -> ServiceHealth:
        """How the service is."""
        return await self._asked(health_request())

    def _stream(self, asked: Rewrite, key: str | None, left_s: float) -> AsyncGenerator[Piece | Rewritten, None]:
        options = self.places.grpc_options()
        return stream_rewrite_async(options.pop("url"), self.model, asked, key=key, timeout_s=left_s, **options)

    async def _answers(self, calls: Sequence[Call[T]]) -> list[T]:
        attempts = self.places.attempts()
        return [answer for call in calls for answer in await _tried(attempts, partial(self._infer, call))]

    async def _infer(self, call: Call[T], left_s: float) -> list[T]:
        if self._grpc is None:
            from tritonclient.grpc.aio import InferenceServerClient

            self._grpc = InferenceServerClient(**self.places.grpc_options())
        with inference_errors(self.places.grpc, self.model):
            result = await self._grpc.infer(
                self.model,
                call.inputs(),
                outputs=grpc_outputs(call.outputs),
                client_timeout=left_s,
                headers=trace_headers(),
            )
        return call.read(outputs_of(result, call.outputs))

    async def _kept(self, rows: Rows) -> Kept:
        attempts, tally = self.places.attempts(), Tally()
        for request in feedback_requests(self.model, rows):
            with tally.noting_refused(request):
                tally.add(await _tried(attempts, partial(self._send, request)))
            attempts.succeeded()  # a request with refused rows was answered
        return tally.total()

    async def _asked(self, request: Request[T]) -> T:
        return await _tried(self.places.attempts(), partial(self._send, request))

    async def _send(self, request: Request[T], left_s: float) -> T:
        import httpx

        with control_errors(self.places.api, request):
            if self._http is None:
                self._http = httpx.AsyncClient(**self.places.http_options())
            async with asyncio.timeout(left_s):  # httpx's own bounds each read, and not the request
                answer = await self._http.request(
                    request.method, request.path, json=request.body, headers=trace_headers(), timeout=left_s
                )
        return answer_of(request, self.places.api, answer.status_code, answer.headers, answer.content)


async def _tried(attempts: Attempts, once: Callable[[float], Awaitable[T]]) -> T:
    while True:
        try:
            made = await once(attempts.left_s())
        except ClientError as error:
            await asyncio.sleep(attempts.pause_after(error))
        else:
            attempts.succeeded()
            return made
