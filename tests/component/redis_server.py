"""A Redis server in a temporary folder, on a free loopback port."""

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from perennial.ops.serving.processes import free_port

__all__ = ["redis_server"]

_START_S = 20.0


@contextmanager
def redis_server(folder: Path, *options: str, port: int = 0) -> Iterator[int]:
    """Its port; what it holds is in the folder, so that the next one there goes on with it."""
    binary = shutil.which("redis-server")
    assert binary is not None, "redis-server is needed: apt-get install redis-server"
    port = port or free_port()
    asked = ["--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder), "--appendonly", "yes", *options]
    with (folder / "redis.log").open("ab") as log:
        process = subprocess.Popen([binary, *asked], stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + _START_S
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                assert time.monotonic() < deadline, (folder / "redis.log").read_text()
                time.sleep(0.05)
        yield port
    finally:
        process.terminate()
        process.wait(timeout=20)
