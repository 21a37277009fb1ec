"""The loop of a demonstration in a process of its own: started, followed by its events, waited for, and stopped."""

import json
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx

from perennial.continual.errors import DataError, DependencyUnreachable, PerennialError
from perennial.continual.jobs.module import module_command
from perennial.ops.demo.recipes import Progress
from perennial.ops.settings import Settings
from perennial.ops.store.workspace import Workspace

__all__ = ["MARK", "ServedLoop", "at_of", "emptied", "end_on_sigterm"]

MARK = "perennial.toml"
_START_S, _STOP_S, _LOOK_S = 90.0, 45.0, 0.25


def emptied(out: Path) -> None:
    """Make room for a new run; a folder that is not a demo's is left alone.

    Raises:
        DataError: the folder holds something else.
    """
    if out.exists() and any(out.iterdir()):
        if not (out / MARK).is_file():
            raise DataError(f"{out} is not empty and holds no earlier demo; name another folder with --out")
        shutil.rmtree(out)
    out.mkdir(parents=True, exist_ok=True)


def end_on_sigterm() -> None:
    """Let this process end at SIGTERM as at Ctrl-C: what it has started is stopped."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)


def at_of(event: Mapping[str, Any]) -> datetime:
    """When an event of the loop happened."""
    return datetime.fromisoformat(str(event["at"]).replace("Z", "+00:00"))


class ServedLoop:
    """`perennial serve` on a demonstration's folder, and what it tells of one model.

    Args:
        out: the folder, which holds the settings.
        settings: the same settings, read.
        model: the model that is followed.
        progress: told of every event of the loop.
    """

    def __init__(self, out: Path, settings: Settings, model: str, progress: Progress) -> None:
        self._out, self._model, self._progress = out, model, progress
        self.workspace = Workspace(settings)
        self.api = f"http://{settings.api.host}:{settings.api.port}"
        self.grpc = f"{settings.triton.host}:{settings.triton.grpc_port}"
        self.http = httpx.Client(base_url=self.api, timeout=10)
        self.events: list[dict[str, Any]] = []
        self._serve: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> Path:
        """Where the loop writes its log."""
        return self._out / "serve.log"

    def start(self) -> None:
        """Start the loop and wait until it answers.

        Raises:
            DependencyUnreachable: it ended, or did not come up in time.
        """
        with self.log.open("ab") as log:
            self._serve = subprocess.Popen(
                # the wrapper ends it with this process, however this one ends
                module_command(
                    "perennial.continual.jobs.child",
                    "0",
                    "perennial.ops.cli",
                    "serve",
                    "--config",
                    str(self._out / MARK),
                ),
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
            )
        self._progress("starting", {"api": self.api, "grpc": self.grpc})
        deadline = time.monotonic() + _START_S
        while time.monotonic() < deadline:
            self.check_alive()
            if self._healthy():
                return
            time.sleep(0.3)
        raise DependencyUnreachable(f"the loop did not come up in {_START_S:.0f} s; see {self.log}")

    def stop(self) -> None:
        """End it; calling it again does nothing."""
        if self._serve is not None and self._serve.poll() is None:
            self._serve.terminate()
            try:
                self._serve.wait(timeout=_STOP_S)
            except subprocess.TimeoutExpired:
                self._serve.kill()
                self._serve.wait()

    def check_alive(self) -> None:
        """Return while it runs.

        Raises:
            DependencyUnreachable: it ended.
        """
        if self._serve is not None and self._serve.poll() is not None:
            raise DependencyUnreachable(f"the loop ended with exit code {self._serve.returncode}; see {self.log}")

    def until(self, what: str, done: Callable[[], bool], tick: Callable[[str], None], *, timeout_s: float) -> None:
        """Follow the loop until something is done; `tick` is called at every look.

        Raises:
            PerennialError: it was not done in time. DependencyUnreachable: the loop ended.
        """
        deadline = time.monotonic() + timeout_s
        while not done():
            self.follow()
            tick(what)
            if time.monotonic() > deadline:
                raise PerennialError(f"{what!r} was not over after {timeout_s:.0f} s; the loop's log is {self.log}")
            self.check_alive()
            time.sleep(_LOOK_S)

    def follow(self) -> None:
        """Read the events that are new."""
        after = self.events[-1]["number"] if self.events else 0
        try:
            new = self.http.get("/v1/events", params={"after": after, "limit": 1_000}).json()
        except (httpx.HTTPError, json.JSONDecodeError):
            return  # asked again at the next look
        for event in new:
            self.events.append(event)
            self._progress("event", event)

    def health(self) -> dict[str, Any]:
        """What the loop says of itself."""
        document: dict[str, Any] = self.http.get("/healthz").json()
        return document

    def champion(self) -> int:
        """The version that answers; 0 while none does."""
        route = self.workspace.read_route(self._model)
        return 0 if route is None else route.champion

    def has_answer_to(self, began: datetime) -> bool:
        """Whether a version whose cycle began at this moment or after it is champion."""
        answers = {e["facts"]["version"] for e in self.events if e["name"] == "cycle.opened" and at_of(e) >= began}
        return self.champion() in answers

    def is_idle(self) -> bool:
        """Whether no cycle is under way."""
        opened = sum(e["name"] == "cycle.opened" for e in self.events)
        return bool(opened == sum(e["name"] == "cycle.closed" for e in self.events))

    def has_learnt_since(self, moment: datetime) -> bool:
        """Whether a cycle that began after `moment` has ended, and none is under way."""
        opened = {e["facts"]["cycle"] for e in self.events if e["name"] == "cycle.opened" and at_of(e) >= moment}
        closed = {e["facts"]["cycle"] for e in self.events if e["name"] == "cycle.closed"}
        return bool(opened) and opened <= closed

    def promotions(self) -> list[datetime]:
        """When a new version became champion."""
        return [at_of(e) for e in self.events if e["name"] == "route.promoted"]

    def _healthy(self) -> bool:
        try:
            return self.http.get("/healthz").status_code == 200
        except httpx.HTTPError:
            return False
