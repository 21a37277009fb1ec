"""The plain client: each call waits for its answer."""

import time
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
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
from .streams import Piece, stream_rewrite
from .texts import Prediction
from .trace import trace_headers
from .waiting import within

__all__ = ["Client"]

T = TypeVar("T")


class Client:
    """Asks one model. May be shared by threads; close it, or use it as a context.

    Every method that asks raises a `ClientError`: what went wrong, with what, and what to do. It tries again what the
    server could not answer, as often as `places.retry` says and within `places.timeout_s`.

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

    def __enter__(self) -> "Client":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        for opened in (self._grpc, self._http):
            if opened is not None:
                opened.close()
        self._grpc = self._http = None

    def predict(self, text: str, *, key: str | None = None, scores: bool = False, known: bool = False) -> Prediction:
        """The label of one text. `key` is a stable id of the caller, by which their rows can be erased."""
        return self.predict_many([text], keys=None if key is None else [key], scores=scores, known=known)[0]

    def predict_many(
        self, texts: Sequence[str], *, keys: Sequence[str] | None = None, scores: bool = False, known: bool = False
    ) -> list[Prediction]:
        """The labels of texts, in order."""
        return self._answers(self._questions.predictions(texts, keys, scores=scores, known=known))

    def look(self, image: bytes, *, key: str | None = None, scores: bool = False, known: bool = False) -> Prediction:
        """The label of one image, the bytes of a JPEG or PNG file; `key` as of `predict`."""
        return self.look_many([image], keys=None if key is None else [key], scores=scores, known=known)[0]

    def look_many(
        self, images: Sequence[bytes], *, keys: Sequence[str] | None = None, scores: bool = False, known: bool = False
    ) -> list[Prediction]:
        """The labels of images, in order."""
        return self._answers(self._questions.images(images, keys, scores=scores, known=known))

    def rank(self, user: str, *, count: int = 10, context: str = "", withheld: Sequence[str] = ()) -> RankedList:
        """A list for a user; `rank_many` takes what else a list is asked for with."""
        return self.rank_many([ListRequest(user=user, count=count, context=context, withheld=tuple(withheld))])[0]

    def rank_many(self, asked: Sequence[ListRequest], *, propensities: bool = False) -> list[RankedList]:
        """Lists for users, in order."""
        return self._answers(self._questions.lists(asked, propensities=propensities))

    def reply(self, message: str | Message, *, further: bool = False) -> SuggestedReplies:
        """The approved replies that fit a message; `further` asks for reasons, scores and `known` too."""
        return self.reply_many([message], further=further)[0]

    def reply_many(
        self, messages: Sequence[str | Message], *, keys: Sequence[str] | None = None, further: bool = False
    ) -> list[SuggestedReplies]:
        """The replies for messages, in order."""
        return self._answers(self._questions.replies([message_of(each) for each in messages], keys, further=further))

    def rewrite(self, reply: str | Rewrite, *, key: str | None = None, further: bool = False) -> Rewritten:
        """An approved reply in a tone, greeting somebody; `further` asks for what was written, let through or not."""
        return self.rewrite_many([reply], keys=None if key is None else [key], further=further)[0]

    def rewrite_many(
        self, replies: Sequence[str | Rewrite], *, keys: Sequence[str] | None = None, further: bool = False
    ) -> list[Rewritten]:
        """Approved replies told in their manners, in order."""
        return self._answers(self._questions.rewrites([rewrite_of(each) for each in replies], keys, further=further))

    def stream_rewrite(
        self, reply: str | Rewrite, *, key: str | None = None
    ) -> Generator[Piece | Rewritten, None, None]:
        """Pieces of a rewrite as they are written, and last the answer, which alone counts.

        It is tried again where no piece has come yet. Whoever stops reading closes it, and the server stops writing.
        """
        attempts, options = self.places.attempts(), self.places.grpc_options()
        url = options.pop("url")
        ask = partial(stream_rewrite, url, self.model, rewrite_of(reply), key=key, **options)
        coming, first = _tried(attempts, lambda left_s: _begun(ask(timeout_s=left_s)))
        with closing(coming):
            yield first
            yield from coming

    def opinion(self, headline: str | Headline, *, further: bool = False) -> Opinion:
        """What a headline says; `further` asks for symbols, scores and `known` too."""
        return self.opinion_many([headline], further=further)[0]

    def opinion_many(
        self, headlines: Sequence[str | Headline], *, keys: Sequence[str] | None = None, further: bool = False
    ) -> list[Opinion]:
        """What headlines say, in order."""
        return self._answers(self._questions.opinions([headline_of(each) for each in headlines], keys, further=further))

    def feedback(self, labels: Sequence[Label]) -> Kept:
        """Give labels. Rows that break a rule are named by the error `RowsRefused`, and the others are kept."""
        return self._kept(labels)

    def signals(self, signals: Sequence[Signal]) -> Kept:
        """Tell what users did with items."""
        return self._kept(signals)

    def verdicts(self, verdicts: Sequence[Verdict]) -> Kept:
        """Tell what became of suggested replies."""
        return self._kept(verdicts)

    def edits(self, edits: Sequence[Edit]) -> Kept:
        """Give texts that were sent in place of approved replies, for rewrites to come nearer to them."""
        return self._kept(edits)

    def status(self) -> ModelStatus:
        """How the model is."""
        return self._asked(status_request(self.model))

    def health(self) -> ServiceHealth:
        """How the service is."""
        return self._asked(health_request())

    def _answers(self, calls: Sequence[Call[T]]) -> list[T]:
        attempts = self.places.attempts()
        return [answer for call in calls for answer in _tried(attempts, partial(self._infer, call))]

    def _infer(self, call: Call[T], left_s: float) -> list[T]:
        if self._grpc is None:
            from tritonclient.grpc import InferenceServerClient

            self._grpc = InferenceServerClient(**self.places.grpc_options())
        with inference_errors(self.places.grpc, self.model):
            result = self._grpc.infer(
                self.model,
                call.inputs(),
                outputs=grpc_outputs(call.outputs),
                client_timeout=left_s,
                headers=trace_headers(),
            )
        return call.read(outputs_of(result, call.outputs))

    def _kept(self, rows: Rows) -> Kept:
        attempts, tally = self.places.attempts(), Tally()
        for request in feedback_requests(self.model, rows):
            with tally.noting_refused(request):
                tally.add(_tried(attempts, partial(self._send, request)))
            attempts.succeeded()  # a request with refused rows was answered
        return tally.total()

    def _asked(self, request: Request[T]) -> T:
        return _tried(self.places.attempts(), partial(self._send, request))

    def _send(self, request: Request[T], left_s: float) -> T:
        import httpx

        with control_errors(self.places.api, request):
            if self._http is None:
                self._http = httpx.Client(**self.places.http_options())
            ask = partial(self._http.request, request.method, request.path, json=request.body, headers=trace_headers())
            answer = within(left_s, partial(ask, timeout=left_s))  # httpx's own bounds each read, and not the request
        return answer_of(request, self.places.api, answer.status_code, answer.headers, answer.content)


def _tried(attempts: Attempts, once: Callable[[float], T]) -> T:
    while True:
        try:
            made = once(attempts.left_s())
        except ClientError as error:
            time.sleep(attempts.pause_after(error))
        else:
            attempts.succeeded()
            return made


def _begun(
    coming: Generator[Piece | Rewritten, None, None],
) -> tuple[Generator[Piece | Rewritten, None, None], Piece | Rewritten]:
    first = next(coming)
    return coming, first
