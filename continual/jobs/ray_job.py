"""`... perennial.continual.jobs.ray_job ORDER`: has a job done on a worker of a Ray cluster, and ends as it does.

To whoever starts it, this process is the job: what that says comes out here, a SIGTERM goes on to it, and its exit code
or signal is this one's. Where the worker dies this process is ended by SIGKILL, so that the job is begun again as any
that something killed. When this process dies Ray ends the job.

It is a process of its own because Ray ends its clients when the cluster goes away.
"""

import asyncio
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import count
from typing import Any, BinaryIO

from perennial.continual.errors import DependencyUnreachable
from perennial.continual.jobs.ray_cluster import RayOrder
from perennial.continual.jobs.ray_worker import RemoteJob

__all__ = ["main"]

_STOPPED = 143  # 128 + SIGTERM
_LOOKS_S = 0.2
_TOLD_AFTER_S = 10.0  # of waiting for a worker
_ANSWERS_S = 5.0  # to a first knock
_AWAY_S = 60.0  # a worker that cannot be reached for so long counts as dead
_CALLS = 64  # at once: what the job says, its end, signals, and each asked anew where a worker could not be reached
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])  # and no settings: RFC 9113, 3.4
_FRAME_HEAD, _SETTINGS = 9, 4  # bytes before a frame, and the kind of the first one that a server sends


def main(arguments: Sequence[str]) -> int:
    """Have the job of the order done, and return its exit code."""
    order = RayOrder.from_json(arguments[0])
    try:
        ray = _connected(order)
    except DependencyUnreachable as error:
        _say(str(error))
        return error.exit_code
    told = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: told.set())  # Ray has set one that ends this process
    options = {"num_cpus": order.cluster.cpus, "num_gpus": order.cluster.gpus, "max_concurrency": _CALLS}
    remote = ray.remote(RemoteJob).options(**options, scheduling_strategy="SPREAD")
    environment = {name: os.environ[name] for name in order.named if name in os.environ}
    job = remote.remote(order.module, order.arguments, order.niceness, environment, order.release)
    try:
        code = _placed(ray, order, job, told) or _followed(ray, job, told)
    except ray.exceptions.RayError as error:  # an actor that died, or that Ray ended where memory ran out
        why = str(error).strip().splitlines()[-1].split(". ")[0].removesuffix(".")
        if getattr(error, "actor_init_failed", False):
            words = f"a worker of Ray at {order.cluster.address} cannot begin {order.module} ({why})"
            _say(f"{words}; install this version of perennial-serving there")
            return DependencyUnreachable.exit_code
        _say(f"the worker died, and the job with it ({why})")
        code = -signal.SIGKILL
    return code if code >= 0 else _ended_by(-code)


def _connected(order: RayOrder) -> Any:
    """Ray, in connection with the cluster.

    Raises:
        DependencyUnreachable: it is not installed, or the cluster does not answer.
    """
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ.setdefault("RAY_NUM_REDIS_GET_RETRIES", "1")  # tries to reach the cluster, 41 s each (2.60), else 20
    try:
        import ray
    except ImportError as error:
        raise DependencyUnreachable(
            "jobs on a Ray cluster need Ray; pip install 'perennial-serving[ray]', or take ray.address out of the "
            "settings"
        ) from error
    try:
        asyncio.run(_knock(order.cluster.address))
        ray.init(address=order.cluster.address, namespace="perennial", log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        words = str(error).strip() or type(error).__name__
        if any(word in words for word in ("Version mismatch", "versions differ")):
            raise DependencyUnreachable(
                f"the Ray cluster at {order.cluster.address!r} has other versions ({' '.join(words.split())}); "
                "install the same ones of Ray and Python here and there"
            ) from error
        why = words.splitlines()[0]
        raise DependencyUnreachable(
            f"no Ray cluster answers at {order.cluster.address!r} ({why}); start one "
            "with `ray start --head --disable-usage-stats`, or correct ray.address in the settings"
        ) from error
    return ray


async def _knock(address: str) -> None:
    """Find out whether a server of gRPC listens there: Ray itself tries for minutes; `auto` is left to Ray.

    Where Ray speaks TLS it is enough that somebody listens.

    Raises:
        OSError: nobody does, or not in time, or it is another server.
    """
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        await asyncio.wait_for(_greeted(host.strip("[]"), int(port)), _ANSWERS_S)


async def _greeted(host: str, port: int) -> None:
    reader, writer = await asyncio.open_connection(host, port)
    try:
        if os.environ.get("RAY_USE_TLS", "0") not in {"1", "true"}:
            writer.write(_PREFACE)
            head = await reader.readexactly(_FRAME_HEAD)
            if head[3] != _SETTINGS:
                raise ConnectionError("what listens there is no Ray")
    except asyncio.IncompleteReadError as error:
        raise ConnectionError("what listens there is no Ray") from error
    finally:
        writer.close()


def _placed(ray: Any, order: RayOrder, job: Any, told: threading.Event) -> int:
    """Wait until a worker has taken it; not 0 where it was told to stop before."""
    place, waited = job.place.remote(), 0.0
    while not ray.wait([place], timeout=_LOOKS_S)[0]:
        waited += _LOOKS_S
        if told.is_set():
            return _STOPPED
        if waited - _LOOKS_S < _TOLD_AFTER_S <= waited:
            wanted = f"{order.cluster.cpus:g} processors and {order.cluster.gpus:g} GPUs"
            _say(f"no worker of Ray at {order.cluster.address} has {wanted} to spare yet; the job waits for one")
    _say(_answer(ray, lambda: place))
    return 0


def _answer(ray: Any, ask: Callable[[], Any], meanwhile: Callable[[], None] = lambda: None) -> Any:
    """What the worker says; one that cannot be reached is asked again, so that a call may be made twice.

    Raises:
        ray.exceptions.RayError: it died, or could not be reached for a minute.
    """
    away_since = None
    while True:
        asked = ask()
        while not ray.wait([asked], timeout=_LOOKS_S)[0]:
            meanwhile()
        try:
            return ray.get(asked)
        except ray.exceptions.ActorUnavailableError:
            now = time.monotonic()
            away_since = now if away_since is None else away_since
            if now - away_since > _AWAY_S:
                raise
            time.sleep(_LOOKS_S)


def _followed(ray: Any, job: Any, told: threading.Event) -> int:
    """Pass on what it says, and signals, until its end."""
    relays = [
        threading.Thread(target=_relay, args=(ray, job, errors, stream), daemon=True)
        for errors, stream in ((False, sys.stdout.buffer), (True, sys.stderr.buffer))
    ]
    for relay in relays:
        relay.start()

    def stop_when_told() -> None:
        if told.is_set():
            told.clear()
            threading.Thread(target=_stop, args=(ray, job), daemon=True).start()

    code: int = _answer(ray, job.wait.remote, stop_when_told)
    for relay in relays:
        relay.join()
    return code


def _stop(ray: Any, job: Any) -> None:
    try:
        _answer(ray, lambda: job.kill.remote(int(signal.SIGTERM)))
    except ray.exceptions.RayError:  # the end tells of it
        return


def _relay(ray: Any, job: Any, errors: bool, stream: BinaryIO) -> None:
    try:
        for number in count(1):
            data: bytes = _answer(ray, partial(job.said.remote, number, errors=errors))
            if not data:
                return
            stream.write(data)
            stream.flush()
    except ray.exceptions.RayError:  # the end tells of it
        return


def _say(words: str) -> None:
    sys.stderr.write(words + "\n")
    sys.stderr.flush()


def _ended_by(number: int) -> int:
    """End as the job did: by this signal."""
    sys.stdout.flush()
    signal.signal(number, signal.SIG_DFL) if number != signal.SIGKILL else None
    os.kill(os.getpid(), number)
    return 128 + number


if __name__ == "__main__":
    ended = main(sys.argv[1:])
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(ended)  # Ray's own end takes seconds, of which a job that was told to end has ten
