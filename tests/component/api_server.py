"""The control API of a real workspace on a real port, with its real service behind it; Triton is not started."""

import re
import socket
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from fastapi import FastAPI

from perennial.continual.records import Route
from perennial.ops.api.app import create_api
from perennial.ops.api.server import make_server
from perennial.ops.app.service import Service
from perennial.ops.app.wiring import open_parts
from perennial.ops.commands.first_version import register
from perennial.ops.console.site import Console
from perennial.ops.ledger import VersionRow, version_card
from perennial.ops.parts import Parts
from perennial.ops.safety.tokens import hashed
from perennial.ops.serving.processes import free_port

__all__ = ["TOKENS", "RunningApi", "answering", "concrete_path", "form_secret"]

TOKENS = {role: f"{role}-token-of-a-test" for role in ("viewer", "labeller", "operator", "admin")}
_SECRET = re.compile(r'name="secret" value="([0-9a-f]{64})"')


@dataclass(frozen=True, kw_only=True)
class RunningApi:
    """The application, where it listens, and the parts behind it."""

    app: FastAPI
    parts: Parts
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def ask(self, method: str, path: str, **more: Any) -> httpx.Response:
        # reading the list of certificates takes longer than the request, and there is no TLS here
        return httpx.request(method, f"{self.url}{path}", timeout=20, verify=False, **more)

    def raw(self, sent: bytes, *, patience_s: float = 20.0) -> bytes:
        """Send bytes as they are, and return everything until the server closes."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=patience_s) as connection:
            connection.sendall(sent)
            return _all_of(connection)


@contextmanager
def answering(
    folder: Path,
    *,
    tokens: bool = False,
    ledger_url: str = "",
    api: Mapping[str, Any] | None = None,
    further: Mapping[str, str] | None = None,
    attributes: Sequence[str] = (),
) -> Iterator[RunningApi]:
    """An API over a workspace with one model and two versions of it; `further` models have their task alone.

    `attributes` are those of people that the model's settings declare.
    """
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    lines = [
        f"ledger_url = '{ledger_url}'",
        "[models.intent]",
        f"fairness.attributes = {list(attributes)}",
        *(f"[models.{model}]\ntask = '{task}'" for model, task in (further or {}).items()),
        "[triton]",
        f"grpc_port = {free_port()}",
        "[api]",
        f"port = {port}",
    ]
    lines += [f"{name} = {value}".replace("{port}", str(port)) for name, value in (api or {}).items()]
    if tokens:
        lines += ["[api.tokens]", *(f'"{hashed(token)}" = "{role}"' for role, token in TOKENS.items())]
    config = folder / "perennial.toml"
    config.write_text("\n".join(lines))
    parts = open_parts(config)
    try:
        _fill(parts)
        service = Service(parts)
        console = Console(parts.ledger, parts.workspace, service.control, service.feed, parts.settings.api)
        app = create_api(parts.ledger, service.control, service.feed, parts.settings.api, console)
        server = make_server(app, parts.settings.api)
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        end = time.monotonic() + 30
        while not server.started:
            assert time.monotonic() < end
            time.sleep(0.01)
        yield RunningApi(app=app, parts=parts, port=port)
        console.leave()
        server.should_exit = True
        thread.join(20)
        assert not thread.is_alive()
    finally:
        parts.close()


def _fill(parts: Parts) -> None:
    register(parts.ledger, parts.workspace)
    if parts.ledger.route("intent") is None:
        for version in (1, 2):
            parts.ledger.add_version(
                VersionRow(model="intent", version=version, card=version_card(labels=("card", "loan")))
            )
        first = Route(model="intent", epoch=1, champion=2, previous=1, resident=(1, 2))
        parts.ledger.set_route(first, expected_epoch=0, actor="test", reason="a start")


def form_secret(page: str) -> str | None:
    """The word by which a form of the console is known to come from this page."""
    found = _SECRET.search(page)
    return None if found is None else found[1]


def _all_of(connection: socket.socket) -> bytes:
    parts: list[bytes] = []
    while True:
        try:
            part = connection.recv(65_536)
        except ConnectionResetError:
            part = b""
        if not part:
            return b"".join(parts)
        parts.append(part)


def concrete_path(path: str) -> str:
    """A documented path for the model that is there."""
    named = {"model": "intent", "kind": "pause", "label": "card", "number": "1"}
    named |= {"version": "1", "cycle": "1"}
    return re.sub(r"{(\w+)}", lambda found: named.get(found[1], "nobody"), path)
