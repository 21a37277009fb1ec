"""The front door before a server that never answers: what clients leave behind is bounded."""

import json
import os
import select
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from perennial.ops.serving.door.limits import DoorLimits, DoorSettings
from perennial.ops.serving.processes import free_port, is_listening, start_ticks
from perennial.ops.serving.server_record import FILE, ServerRecord

pytestmark = [pytest.mark.component, pytest.mark.alone]
_MOST = 8
_BODY = json.dumps({"inputs": [{"name": "TEXT", "shape": [1, 1], "datatype": "BYTES", "data": ["a"]}]}).encode()
_HEAD = b"POST /v2/models/intent/infer HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(_BODY)


@pytest.fixture
def silent() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0), backlog=128) as server:
        yield server


@pytest.fixture
def port(tmp_path: Path, silent: socket.socket) -> Iterator[int]:
    """Where the door of the silent server answers."""
    behind = silent.getsockname()[1]
    ticks = start_ticks(os.getpid()) or 0
    ServerRecord(pid=os.getpid(), ticks=ticks, fingerprint="", secret="s", http_port=behind).keep(tmp_path / FILE)
    settings = DoorSettings(
        host="127.0.0.1",
        http_port=free_port(),
        metrics_port=0,
        record=tmp_path / FILE,
        limits=DoorLimits(connections=_MOST),
    )
    with subprocess.Popen([sys.executable, "-m", "perennial.ops.serving.door", settings.to_json()]) as door:
        end = time.monotonic() + 60
        while not is_listening(f"127.0.0.1:{settings.http_port}"):
            assert time.monotonic() < end
            time.sleep(0.02)
        yield settings.http_port
        door.terminate()


@pytest.mark.parametrize("leaves", ["politely", "with a reset", "not"])
def test_requests_are_bounded_in_number_and_given_up_when_their_clients_leave(
    silent: socket.socket, port: int, leaves: str
) -> None:
    clients, behind = [], []
    for _ in range(_MOST):
        clients.append(client := socket.create_connection(("127.0.0.1", port)))
        client.sendall(_HEAD + _BODY)
        behind.append(silent.accept()[0])  # it is passed on
    full = httpx.post(f"http://127.0.0.1:{port}/v2/models/intent/infer", content=_BODY, timeout=60)
    assert (full.status_code, full.headers["Retry-After"]) == (503, "1")
    assert "too many requests" in full.json()["error"]
    for client, line in zip(clients, behind, strict=True):
        if leaves == "with a reset":
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        (line if leaves == "not" else client).close()
    if leaves != "not":
        for line in behind:
            line.settimeout(60)
            while line.recv(4_096):  # the server is told that nobody waits any more
                pass
    end = time.monotonic() + 60
    while not (got := _answer(silent, port)).startswith(b"HTTP/1.1 200 "):  # there is room once the door has seen it
        assert got.startswith(b"HTTP/1.1 503 ") or not got, got
        assert time.monotonic() < end, "there is no room again"
        time.sleep(0.05)
    for line in (*clients, *behind):
        line.close()


def test_a_client_that_has_sent_all_and_still_reads_gets_its_answer(silent: socket.socket, port: int) -> None:
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.settimeout(60)
        client.sendall(_HEAD + _BODY)
        client.shutdown(socket.SHUT_WR)
        line = silent.accept()[0]
        line.recv(4_096)
        time.sleep(2.2)  # the door looks twice whether it still listens
        line.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
        got = b""
        while b"HTTP/1.1 200 " not in got:
            more = client.recv(4_096)
            assert more, got
            got += more
        line.close()


def _answer(silent: socket.socket, port: int) -> bytes:
    """What one more client gets; nothing where its connection is ended. What the door passes on is answered."""
    with ExitStack() as lines:
        client = lines.enter_context(socket.create_connection(("127.0.0.1", port)))
        client.settimeout(60)
        client.sendall(_HEAD + _BODY)
        while not select.select([client], [], [], 0)[0]:  # the door may still ask for one whose client left
            if select.select([silent, client], [], [], 60)[0] == [silent]:
                line = lines.enter_context(silent.accept()[0])
                line.settimeout(60)
                line.recv(4_096)  # an answer before the request would be nobody's
                line.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
        try:
            return client.recv(4_096)
        except ConnectionError:
            return b""
