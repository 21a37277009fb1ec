"""What is made of a Ray cluster that is none, is of other versions, or is away for a while."""

import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from perennial.continual.errors import DependencyUnreachable
from perennial.continual.jobs import ray_job
from perennial.continual.jobs.ray_cluster import RayCluster, RayOrder, own_release
from perennial.continual.jobs.ray_worker import RemoteJob

_OTHERS = """Version mismatch: The cluster was started with:
    Ray: 2.50.0
    Python: 3.11.7
This process on node 10.0.0.5 was started with:
    Ray: 2.60.0
    Python: 3.11.9
"""


class Unavailable(Exception):
    pass


def order(address: str) -> RayOrder:
    return RayOrder(cluster=RayCluster(address=address), module="m", arguments=(), niceness=0, named=())


def ray(**methods: Any) -> Any:
    return SimpleNamespace(exceptions=SimpleNamespace(ActorUnavailableError=Unavailable, RayError=Exception), **methods)


@contextmanager
def listening(answer: bytes) -> Iterator[str]:
    """Somebody who sends this to whoever connects, and then nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def greet() -> None:
            connection, _ = server.accept()
            with connection:
                connection.sendall(answer)
                if not answer:
                    connection.shutdown(socket.SHUT_WR)
                connection.recv(1 << 16)

        thread = threading.Thread(target=greet, daemon=True)
        thread.start()
        yield f"127.0.0.1:{server.getsockname()[1]}"
        thread.join(10)


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n"], ids=["silence", "web"])
def test_another_server_at_the_address_is_no_cluster(monkeypatch: pytest.MonkeyPatch, answer: bytes) -> None:
    monkeypatch.setitem(sys.modules, "ray", ray(init=lambda **_: pytest.fail("Ray would try for 41 s")))
    with listening(answer) as address, pytest.raises(DependencyUnreachable, match=r"no Ray .*what listens there is no"):
        ray_job._connected(order(address))


@pytest.mark.parametrize("differs", [_OTHERS, "Python minor versions differ between client and server: 3.10 and 3.11"])
def test_a_cluster_of_other_versions_is_told_with_them(monkeypatch: pytest.MonkeyPatch, differs: str) -> None:
    def init(**_: Any) -> None:
        raise RuntimeError(differs)

    monkeypatch.setitem(sys.modules, "ray", ray(init=init))
    settings = bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
    with listening(settings) as address, pytest.raises(DependencyUnreachable, match="has other versions") as told:
        ray_job._connected(order(address))
    assert " ".join(differs.split()) in str(told.value)
    assert "install the same ones" in str(told.value)


def test_a_worker_that_is_away_for_a_while_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_job, "_LOOKS_S", 0.0)
    tries: list[int] = []

    def get(number: int) -> int:
        if number < 3:
            raise Unavailable
        return number

    def ask() -> int:
        tries.append(len(tries) + 1)
        return tries[-1]

    cluster = ray(get=get, wait=lambda asked, timeout: (asked, []))
    assert ray_job._answer(cluster, ask) == 3
    assert tries == [1, 2, 3]
    monkeypatch.setattr(ray_job, "_AWAY_S", 0.0)
    with pytest.raises(Unavailable):
        ray_job._answer(cluster, lambda: 1)


def test_a_worker_of_another_release_refuses_the_job() -> None:
    with pytest.raises(DependencyUnreachable, match=rf"has perennial-serving {own_release()}, and 9\.9 sends the job"):
        RemoteJob("m", [], 0, {}, "9.9")


def test_a_lost_piece_of_what_a_job_said_is_given_again() -> None:
    job = RemoteJob("platform", [], 0, {}, own_release())
    with job._process:
        said = piece = job.said(1, errors=False)
        assert job.said(1, errors=False) == piece != b""
        for number in range(2, 1_000):
            piece = job.said(number, errors=False)
            said += piece
            if not piece:
                break
        assert b"Linux" in said
        assert job.wait() == job.wait() == 0
