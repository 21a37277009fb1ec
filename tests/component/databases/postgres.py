"""A PostgreSQL server in a temporary folder, on a free loopback port, for as long as this process lives."""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import LiteralString, Self

__all__ = ["PostgresServer"]

_FAST = ["-cfsync=off", "-csynchronous_commit=off", "-cfull_page_writes=off", "-cmax_connections=100"]
_TAKEN = "Address already in use"


class PostgresServer:
    """Start with `PostgresServer.start()`; give each test a database of its own with `create`."""

    def __init__(self, folder: Path, port: int, process: "subprocess.Popen[bytes]") -> None:
        self._folder = folder
        self._port = port
        self._process = process

    @classmethod
    def start(cls) -> Self:
        """Make a cluster and start a server on it; raises when PostgreSQL is not installed, for it was promised."""
        user = _server_user()
        folder = Path(tempfile.mkdtemp(prefix="perennial-pg-"))
        if user is not None:
            os.chown(folder, user.pw_uid, user.pw_gid)
        as_user = {} if user is None else {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
        data = folder / "data"
        make = [
            _binary("initdb"),
            "-D",
            data,
            "-U",
            "perennial",
            "-A",
            "trust",
            "-E",
            "UTF8",
            "--no-locale",
            "--no-sync",
        ]
        subprocess.run(make, check=True, cwd=folder, stdout=subprocess.DEVNULL, **as_user)  # type: ignore[call-overload]
        while True:
            port = _free_port()
            options = [f"-p{port}", "-k", str(folder), "-h", "127.0.0.1", *_FAST]
            with (folder / "log").open("wb") as log:
                process = subprocess.Popen(  # type: ignore[call-overload]
                    [_binary("postgres"), "-D", data, *options], cwd=folder, stdout=log, stderr=log, **as_user
                )
            server = cls(folder, port, process)
            try:
                server._wait()
            except RuntimeError as error:
                if _TAKEN not in str(error):  # somebody else may take the free port before it does
                    raise
            else:
                return server

    @property
    def pid(self) -> int:
        """The server's first process; every other one is its child."""
        return self._process.pid

    def url(self, database: str = "postgres") -> str:
        """Return a database's URL, in the form that an operator would write."""
        return f"postgresql://perennial@127.0.0.1:{self._port}/{database}"

    def run(self, statement: LiteralString) -> None:
        """Run one statement outside a transaction, e.g. CREATE DATABASE."""
        import psycopg

        with psycopg.connect(self.url(), autocommit=True) as connection:
            connection.execute(statement)

    def stop(self) -> None:
        """Stop the server at once and remove its folder."""
        if self._process.poll() is None:
            self._process.send_signal(3)  # SIGQUIT: immediate shutdown
            self._process.wait(timeout=20)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _wait(self, limit_s: float = 60.0) -> None:
        import psycopg

        end = time.monotonic() + limit_s
        while True:
            try:
                psycopg.connect(self.url(), connect_timeout=2).close()
                return
            except psycopg.OperationalError as error:
                if self._process.poll() is not None or time.monotonic() > end:
                    log = (self._folder / "log").read_text(errors="replace")[-2000:]
                    raise RuntimeError(f"PostgreSQL did not start: {error}\n{log}") from error
                time.sleep(0.1)


def _server_user() -> pwd.struct_passwd | None:
    """PostgreSQL refuses to run as root; then take its own user, else the one without rights."""
    if os.geteuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return pwd.getpwnam("postgres" if "postgres" in names else "nobody")


def _binary(name: str) -> str:
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: float(path.parent.name))
    for folder in (*reversed(versions), *map(Path, os.environ.get("PATH", "").split(os.pathsep))):
        if (folder / name).exists():
            return str(folder / name)
    raise RuntimeError(f"{name} is neither in PATH nor in /usr/lib/postgresql/*/bin; apt-get install postgresql")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
