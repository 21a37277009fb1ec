"""A web page of somebody else, in a real browser on the same machine, tries every way to change something here."""

import http.server
import json
import os
import sqlite3
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from perennial.ops.app.service import Service
from perennial.ops.serving.processes import end_group
from tests.component.test_service_starts import Town
from tests.component.triton_fixtures import MODEL

pytestmark = [pytest.mark.component, pytest.mark.timeout(240)]
_CLOCKWORK = {"lease", "job", "job_run", "audit_head", "notice", "model_state", "sqlite_sequence"}  # the service's own
_API = [
    ("POST", f"/v1/models/{MODEL}/promote", {"version": 1, "reason": "x"}),
    ("POST", f"/v1/models/{MODEL}/rollback", {"reason": "x"}),
    ("POST", f"/v1/models/{MODEL}/retrain", {"reason": "x"}),
    ("POST", f"/v1/models/{MODEL}/commands/pause", {"reason": "x"}),
    ("POST", f"/v1/models/{MODEL}/commands/retrain", {"reason": "x"}),
    ("POST", f"/v1/jobs/watch:{MODEL}/runs", {}),
    ("POST", f"/v1/models/{MODEL}/labels/queue", {"limit": 5}),
    ("POST", f"/v1/models/{MODEL}/proposals/1", {"label": "planted"}),
    ("PUT", f"/v1/models/{MODEL}/descriptions/card_issue", {"text": "x"}),
    ("DELETE", f"/v1/models/{MODEL}/descriptions/card_issue", {}),
    ("POST", "/v1/erasures", {"key": "someone"}),
    ("POST", "/v1/feedback", {"model": MODEL, "labels": [{"text": "planted", "label": "card_issue"}]}),
    ("POST", f"/console/models/{MODEL}/promote", {"version": 1, "reason": "x"}),
    ("POST", f"/console/models/{MODEL}/rollback", {"reason": "x"}),
    ("POST", f"/console/models/{MODEL}/labels", {"request": "x", "label": "planted"}),
]
_INPUT = {"name": "TEXT", "shape": [1, 1], "datatype": "BYTES", "data": ["planted"]}
_TRITON = [
    ("POST", "/v2/repository/models/evil/load", {"parameters": {"config": '{"backend": "python"}'}}),
    ("POST", f"/v2/repository/models/{MODEL}/unload", {}),
    ("POST", f"/v2/repository/models/{MODEL}_engine/unload", {}),
    ("POST", "/v2/logging", {"log_verbose_level": 9}),
    ("POST", "/v2/trace/setting", {"trace_level": ["TIMESTAMPS"]}),
    ("POST", "/v2/systemsharedmemory/unregister", {}),
    ("POST", f"/v2/models/{MODEL}/infer", {"inputs": [_INPUT]}),
]
_PAGE = """<!doctype html><iframe name="sink"></iframe><script>
const targets = TARGETS, tried = [];
async function go() {
  for (const [method, url, body] of targets) {
    for (const mode of ["cors", "no-cors"]) {
      for (const kind of ["application/json", "text/plain", "application/x-www-form-urlencoded"]) {
        for (const verb of new Set([method, "POST"])) {
          try {
            const answer = await fetch(url, {method: verb, mode, body, credentials: "include",
              headers: {"Content-Type": kind}});
            tried.push([url, mode, kind, verb, answer.type === "opaque" ? "sent" : "READ " + answer.status]);
          } catch (error) { tried.push([url, mode, kind, verb, "" + error]); }
        }
      }
    }
    for (const enctype of ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"]) {
      const form = document.createElement("form"), field = document.createElement("input");
      Object.assign(form, {method: "POST", action: url, target: "sink", enctype});
      Object.assign(field, {name: body.slice(0, -1) + ', "x": "', value: '"}'});
      form.append(field); document.body.append(form); form.submit();
      tried.push([url, "form", enctype, "POST", "sent"]);
      await new Promise(done => setTimeout(done, 30));
    }
    navigator.sendBeacon(url, body);
    new Image().src = url;
  }
  await new Promise(done => setTimeout(done, 500));
  await fetch("/done", {method: "POST", body: JSON.stringify(tried)});
}
go();
</script>"""


class _Elsewhere:
    """A server of somebody else: of the page, which tells it what came of everything, or one that the page attacks."""

    def __init__(self, targets: list[tuple[str, str, str]]) -> None:
        page = _PAGE.replace("TARGETS", json.dumps(targets)).encode()
        posted: list[list[str]] = []
        received: list[str] = []
        self.posted, self.received, self.done = posted, received, threading.Event()
        done = self.done

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "text/html")
                self.end_headers()
                self.wfile.write(page)

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                self.send_response(204)
                self.end_headers()
                if self.path == "/done":
                    posted.extend(json.loads(body))
                    done.set()
                else:
                    received.append(self.headers["Content-Type"])

            def log_message(self, *_: Any) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    town = Town(tmp_path_factory.mktemp("foreign-page"))
    service = Service(town.opened())
    service.start()
    try:
        yield town
    finally:
        service.stop()


def _kept(town: Town) -> dict[str, Any]:
    """Everything that a write could have changed."""
    with sqlite3.connect(town.place.root / "var" / "ledger.db") as ledger:
        names = [name for (name,) in ledger.execute("select name from sqlite_master where type = 'table'")]
        rows = {name: ledger.execute(f"select * from {name}").fetchall() for name in names if name not in _CLOCKWORK}
    ledger.close()
    parts = town.opened()
    try:
        index = sorted((entry.model, entry.version, entry.state) for entry in parts.controls[0].index())
    finally:
        parts.close()
    logged = sorted(
        str(path) for path in (town.place.root / "var" / "traffic").rglob("*.arrow*") if b"planted" in path.read_bytes()
    )
    return {**rows, "triton": index, "logged": logged, "pid": town.triton()}


def _browse(page: str, profile: Path) -> subprocess.Popen[bytes]:
    """A browser for which `evil.example` is this machine, as after a DNS rebinding."""
    command = [
        "chromium",
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--no-first-run",
        f"--user-data-dir={profile}",
        "--host-resolver-rules=MAP *.example 127.0.0.1",
        "--disable-features=LocalNetworkAccessChecks,BlockInsecurePrivateNetworkRequests",
        page,
    ]
    quiet = subprocess.DEVNULL
    return subprocess.Popen(command, stdin=quiet, stdout=quiet, stderr=quiet, start_new_session=True, env=os.environ)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "evil.example"], ids=["address", "name", "rebound"])
def test_a_foreign_page_changes_nothing(town, tmp_path, host):
    triton = town.opened().settings.triton
    ports = [(town.api, _API), (triton.http_port, _TRITON), (triton.metrics_port, [("POST", "/metrics", {})])]
    ports.append((triton.grpc_port, [("POST", "/inference.GRPCInferenceService/RepositoryIndex", {})]))
    targets = [
        (method, f"http://{host}:{port}{path}", json.dumps(body))
        for port, entries in ports
        for method, path, body in entries
    ]
    unguarded = _Elsewhere([])  # shows that what the page sends does leave the browser
    targets.append(("POST", f"http://{host}:{unguarded.port}/trap", "{}"))
    before = _kept(town)
    elsewhere = _Elsewhere(targets)
    browser = _browse(f"http://evil.example:{elsewhere.port}/", tmp_path / "profile")
    try:
        assert elsewhere.done.wait(150), "the page did not come to its end"
        time.sleep(1)
        assert _kept(town) == before
        assert not [entry for entry in elsewhere.posted if entry[-1].startswith("READ")], (
            "the page could read an answer"
        )
        assert {"text/plain", "text/plain;charset=UTF-8"} & set(unguarded.received), "the page reaches nobody at all"
        assert len(unguarded.received) >= 8
        assert town.answering() == 2
    finally:
        end_group(browser.pid, grace_s=2.0)
        browser.wait()
        elsewhere.close()
        unguarded.close()
