"""The process of the front door: `python -m perennial.ops.serving.door SETTINGS`."""

import asyncio
import gc
import logging
import os
import resource
import signal
import sys
import time
from functools import partial

import uvloop

from perennial.ops.serving.door.connection import ClientConnection, Hall
from perennial.ops.serving.door.gathering import Gathering
from perennial.ops.serving.door.limits import DoorSettings
from perennial.ops.serving.door.requests import Rules
from perennial.ops.serving.door.upstream import Upstream
from perennial.ops.serving.processes import is_running
from perennial.ops.serving.server_record import KeptRecord

logger = logging.getLogger(__name__)
_LOOK_S = 1.0
_ALONE_S = 20.0  # without a control process and without a server, which a restart brings back sooner
_LEAVE_S = 5.0  # for requests that are under way
_MOST_FRAMES = 400  # the deepest JSON that is followed, less what the loop itself uses


class _Solitude:
    """Since when there has been neither the process that started this one nor a server."""

    def __init__(self, record: KeptRecord) -> None:
        self._record, self._parent = record, os.getppid()
        self._since = time.monotonic()

    def is_final(self) -> bool:
        now, record = time.monotonic(), self._record()
        served = record is not None and is_running(record.pid, record.ticks)
        if served or os.getppid() == self._parent:
            self._since = now
        return now - self._since > _ALONE_S


async def _serve(settings: DoorSettings) -> None:
    loop, present, stop = asyncio.get_running_loop(), set[ClientConnection](), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    record, servers = KeptRecord(settings.record), []
    for port, metrics in ((settings.http_port, False), (settings.metrics_port, True)):
        if port:
            upstream = Upstream(record, metrics=metrics, answer_s=settings.limits.answer_s)
            gathering = None
            if not metrics and settings.routes is not None and settings.limits.together_rows > 1:
                gathering = Gathering(upstream, settings.routes, most=settings.limits.together_rows)
            hall = Hall(
                Rules(settings, metrics=metrics), upstream, settings.limits, present, gathering, traces=settings.traces
            )
            make = partial(ClientConnection, hall)
            servers.append(await loop.create_server(make, settings.host, port, backlog=512))
    logger.info("door.open", extra={"http": settings.http_port, "metrics": settings.metrics_port})
    solitude = _Solitude(record)
    while not stop.is_set() and not solitude.is_final():
        for client in tuple(present):
            try:
                client.look(loop.time())
            except Exception:  # one client's end is no other's affair
                logger.exception("door.look_failed")
                client.abort()
        try:
            await asyncio.wait_for(stop.wait(), _LOOK_S)
        except TimeoutError:
            continue
    for server in servers:
        server.close()
    end = loop.time() + _LEAVE_S
    while loop.time() < end and any(client.is_busy for client in present):
        await asyncio.sleep(0.02)
    for client in tuple(present):
        client.abort()


def _allow_files(wanted: int) -> None:
    """Let this process open so many files, as far as its hard limit goes; the usual 1,024 are too few for a full hall.

    Where a file is refused, no client is let in at all.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < allowed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))


def main() -> None:
    """Serve until told to stop."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    settings = DoorSettings.from_json(sys.argv[1])
    _allow_files(3 * settings.limits.connections)  # a client's, one to Triton, and those that are on their way out
    sys.setrecursionlimit(_MOST_FRAMES)
    gc.freeze()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(settings))


if __name__ == "__main__":
    main()
