"""The HTTP server of the control API: uvicorn with patience that ends."""

import asyncio
from typing import ClassVar

import h11
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from perennial.ops.api.errors import PROBLEM, problem
from perennial.ops.settings import ApiSettings

__all__ = ["make_server"]

_MOST_SILENT = 256  # connections that have not sent a whole request yet
_LARGEST_HEAD = 65_536
_FLUSH_S = 5.0


class PatientProtocol(H11Protocol):
    """A connection that is closed when its next request does not arrive, or its answer is not taken, in time.

    Where too many connections are silent, the one that has been silent longest is closed: callers that send nothing
    cannot keep others out.
    """

    idle_s: ClassVar[float] = 10.0
    _silent: ClassVar[dict["PatientProtocol", None]] = {}  # by age

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for the first request."""
        super().connection_made(transport)
        self._giving_up: asyncio.TimerHandle | None = None
        self._unread: asyncio.TimerHandle | None = None
        self._await_request()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._request_came()
        self._answer_taken()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take data; what is no whole request yet does not extend the wait."""
        super().data_received(data)
        if self._busy():
            self._request_came()
        else:
            self._await_request()

    def on_response_complete(self) -> None:
        """Begin to wait for the next request."""
        super().on_response_complete()
        if not self._busy():
            self._await_request()

    def pause_writing(self) -> None:
        """The caller takes its answer more slowly than it is written."""
        super().pause_writing()
        if self._unread is None:
            self._unread = self.loop.call_later(3 * self.idle_s, self.transport.abort)

    def resume_writing(self) -> None:
        """The caller took what was waiting."""
        super().resume_writing()
        self._answer_taken()

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP, in the shape of every other error."""
        if self.conn.our_state not in {h11.IDLE, h11.SEND_RESPONSE}:
            self.transport.close()
            return
        body = bytes(problem(400, "BadRequest", msg).body)
        head = [("Content-Type", PROBLEM), ("Content-Length", str(len(body))), ("Connection", "close")]
        for event in (h11.Response(status_code=400, headers=head), h11.Data(data=body), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    def _busy(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _await_request(self) -> None:
        if self._giving_up is not None or self.transport.is_closing():
            return
        self._giving_up = self.loop.call_later(self.idle_s, self._give_up)
        self._silent[self] = None
        if len(self._silent) > _MOST_SILENT:
            next(iter(self._silent))._give_up()

    def _request_came(self) -> None:
        self._silent.pop(self, None)
        if self._giving_up is not None:
            self._giving_up.cancel()
            self._giving_up = None

    def _answer_taken(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    def _give_up(self) -> None:
        self._request_came()
        self.transport.close()
        self.loop.call_later(_FLUSH_S, self.transport.abort)


def make_server(application: ASGIApp, settings: ApiSettings) -> uvicorn.Server:
    """A server that is to be run in a thread, where it takes no signals."""
    protocol = type("Protocol", (PatientProtocol,), {"idle_s": settings.idle_s, "_silent": {}})
    config = uvicorn.Config(
        application,
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,
        lifespan="off",
        http=protocol,
        ws="none",
        h11_max_incomplete_event_size=_LARGEST_HEAD,
        timeout_graceful_shutdown=5,
        proxy_headers=False,
        server_header=False,
    )
    return uvicorn.Server(config)
