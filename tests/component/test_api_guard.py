"""Nobody gets past the guard of the control API: not by host, page, token, size, depth or patience."""

import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from perennial.ops.api.origin import REQUEST_HEADER
from perennial.ops.store.route_changes import restore_route_file
from tests.component.api_server import TOKENS, RunningApi, answering, concrete_path

pytestmark = [pytest.mark.component, pytest.mark.alone]
_NO_JSON = ("/pause", "/resume", "/runs", "/retrain", "/queue", "/proposals", "/speech")
_LIMIT = 100_000
_IDLE_S = 0.6
_OWN = {REQUEST_HEADER: "1"}
_POST = b"POST /v1/feedback HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"


@pytest.fixture(scope="module")
def open_api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApi]:
    limits = {"body_bytes": _LIMIT, "idle_s": _IDLE_S, "hosts": '["models.example"]'}
    with answering(tmp_path_factory.mktemp("open"), api=limits) as api:
        yield api


@pytest.fixture(scope="module")
def closed_api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApi]:
    with answering(
        tmp_path_factory.mktemp("closed"), tokens=True, api={"body_bytes": _LIMIT, "idle_s": _IDLE_S}
    ) as api:
        yield api


def operations(api: RunningApi, *methods: str) -> list[tuple[str, str]]:
    """Every operation that the API documents, for the model that is there."""
    found = []
    for path, item in api.app.openapi()["paths"].items():
        concrete = concrete_path(path)
        found += [(method.upper(), concrete) for method in item if not methods or method.upper() in methods]
    return found


def writes(api: RunningApi) -> list[tuple[str, str]]:
    found = operations(api, "POST", "PUT", "PATCH", "DELETE")
    assert len(found) >= 8
    return found


def is_problem(answer: httpx.Response, status: int) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem: dict[str, Any] = answer.json()
    assert problem["status"] == status
    assert {"type", "title", "detail", "error"} <= set(problem)
    return problem


# ---- hosts ----


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("LOCALHOST:9", 200),
        ("localhost.", 200),
        ("127.0.0.1:8080", 200),
        ("127.9.9.9", 200),
        ("[::1]:8080", 200),
        ("models.example", 200),
        ("evil.example", 421),
        ("evil.example:8080", 421),
        ("localhost.evil.example", 421),
        ("127.0.0.1.evil.example", 421),
        ("models.example.evil", 421),
        ("169.254.169.254", 421),
        ("0.0.0.0", 421),
        ("", 400),
        ("evil.example@localhost", 400),
        ("localhost/", 400),
        ("a b", 400),
        ("[::1", 400),
    ],
)
def test_only_its_own_names_are_answered_for(open_api: RunningApi, host: str, status: int) -> None:
    for path in ("/healthz", "/v1/audit", "/openapi.json", "/nowhere"):
        sent = f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode()
        line = open_api.raw(sent).split(b"\r\n", 1)[0]
        expected = {200: (b" 200", b" 503", b" 404")}.get(status, (f" {status}".encode(),))
        assert any(pattern in line for pattern in expected), (path, line)


def test_a_request_without_a_host_is_refused(open_api: RunningApi) -> None:
    assert b" 400 " in open_api.raw(b"GET /v1/audit HTTP/1.0\r\n\r\n").split(b"\r\n")[0]


# ---- pages from elsewhere ----

_PAGES = [
    {"Origin": "http://evil.example"},
    {"Origin": "null"},
    {"Origin": "http://localhost:3000"},
    {"Origin": "http://127.0.0.1"},
    {"Origin": "file://"},
    {"Origin": "http://evil.example/http://127.0.0.1"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"},
]


@pytest.mark.parametrize("page", _PAGES, ids=str)
def test_a_page_from_elsewhere_changes_nothing(open_api: RunningApi, page: dict[str, str]) -> None:
    before = len(open_api.parts.ledger.audit_entries(limit=1_000))
    for method, path in writes(open_api):
        for kind in ("application/json", "text/plain", "application/x-www-form-urlencoded"):
            headers = {**page, **_OWN, "Content-Type": kind}
            is_problem(open_api.ask(method, path, content=b"{}", headers=headers), 403)
    assert len(open_api.parts.ledger.audit_entries(limit=1_000)) == before


@pytest.mark.parametrize(
    "kind",
    [
        None,
        "",
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "text/json",
        "text/plain; application/json",
        "application/jsonp",
        "json",
        "text/plain, application/json",
    ],
)
def test_a_write_needs_json_or_the_header(open_api: RunningApi, kind: str | None) -> None:
    headers = {} if kind is None else {"Content-Type": kind}
    for method, path in writes(open_api):
        problem = is_problem(open_api.ask(method, path, content=b"{}", headers=headers), 415)
        assert REQUEST_HEADER in problem["detail"]


def test_the_own_page_and_a_followed_link_are_welcome(open_api: RunningApi) -> None:
    own = {"Origin": open_api.url, "Sec-Fetch-Site": "same-origin", **_OWN}
    assert open_api.ask("POST", "/v1/models/intent/commands/pause", headers=own).status_code == 202
    assert open_api.ask("POST", "/v1/models/intent/commands/resume", headers=own).status_code == 202
    link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    assert open_api.ask("GET", "/docs", headers=link).status_code == 200
    assert open_api.ask("GET", "/v1/audit", headers={"Sec-Fetch-Site": "cross-site"}).status_code == 403


# ---- tokens ----


@pytest.mark.parametrize(
    "given",
    [
        b"",
        b"Bearer",
        b"Bearer ",
        b"Bearer \xff\xfe\x80",
        b"Bearer \xe2\x82\xac",
        b"Basic dXNlcjpwYXNz",
        b"bearer  \t ",
        b"Bearer " + b"x" * 20_000,
        b"Bearer a, Bearer b",
        b"\xc3\xa9",
    ],
)
def test_no_authorization_however_strange_is_more_than_a_401(closed_api: RunningApi, given: bytes) -> None:
    for method, path in (("GET", b"/v1/models"), ("POST", b"/v1/feedback")):
        sent = b"%s %s HTTP/1.1\r\nHost: localhost\r\nAuthorization: %s\r\nConnection: close\r\n\r\n"
        answer = closed_api.raw(sent % (method.encode(), path, given))
        assert b" 401 " in answer.split(b"\r\n")[0], answer
        assert b"www-authenticate: bearer" in answer.lower()


def test_two_authorizations_are_none(closed_api: RunningApi) -> None:
    token = TOKENS["operator"]
    pair = [("Authorization", f"Bearer {token}"), ("Authorization", "Bearer x")]
    assert closed_api.ask("GET", "/v1/models", headers=pair).status_code == 401


def test_a_token_is_asked_for_before_the_body_is_sent(closed_api: RunningApi) -> None:
    """The answer comes though not one byte of the body did: nothing unauthenticated is kept in memory."""
    for method, path in writes(closed_api):
        for token, status in ((None, 401), (TOKENS["viewer"], 403)):
            if status == 403 and path == "/v1/feedback":
                continue
            authorization = "" if token is None else f"Authorization: Bearer {token}\r\n"
            head = (
                f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n{authorization}Content-Type: application/json\r\n"
                f"Content-Length: 200000000\r\n\r\n"
            )
            with socket.create_connection(("127.0.0.1", closed_api.port), timeout=20) as connection:
                connection.sendall(head.encode())
                assert f" {status} ".encode() in connection.recv(65_536).split(b"\r\n")[0]


# ---- sizes ----


def test_a_body_that_says_how_large_it_is_is_refused_unread(open_api: RunningApi) -> None:
    for size in (_LIMIT + 1, 200_000_000, 10**19, 10**30):
        with socket.create_connection(("127.0.0.1", open_api.port), timeout=20) as connection:
            connection.sendall(_POST + b"Content-Length: %d\r\n\r\n" % size)
            status = connection.recv(65_536).split(b"\r\n")[0]
            assert b" 413 " in status or (size > 10**18 and b" 400 " in status), status


def test_a_body_that_does_not_say_it_is_refused_at_the_limit(open_api: RunningApi) -> None:
    sent = 0

    def parts() -> Iterator[bytes]:
        nonlocal sent
        for _ in range(400):
            sent += 10_000
            yield b" " * 10_000

    problem = is_problem(
        open_api.ask("POST", "/v1/feedback", content=parts(), headers={"Content-Type": "application/json"}), 413
    )
    assert str(_LIMIT) in problem["detail"]


def test_a_refused_caller_who_sends_all_the_same_sees_the_answer(closed_api: RunningApi) -> None:
    body = b"x" * 30_000_000
    answer = closed_api.ask("POST", "/v1/feedback", content=body, headers={"Content-Type": "application/json"})
    is_problem(answer, 401)


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 50_000,
        b"[" * 40_000 + b"]" * 40_000,
        b'{"a":' * 15_000 + b"1" + b"}" * 15_000,
        b'{"model": "intent", "labels": ' + b"[" * 900 + b"]" * 900 + b"}",
        b'{"model": ' + b'{"a":' * 900 + b"1" + b"}" * 900 + b"}",
        b'{"labels": [{"label": "a", "at": ' + b"9" * 5_000 + b"}]}",
        b'{"labels": [{"label": "a", "text": "bad \\ud83d", "x\\udc00": 1}]}',
        b'{"labels": [{"label": "a", "text": "t", "at": Infinity}]}',
        b'{"labels": NaN}',
        b"\xff\xfe",
        b'"\xed\xa0\x80"',
        b"",
        b"null",
        b"{" * 10,
    ],
    ids=lambda body: str(body[:24]),
)
def test_a_strange_body_is_the_callers_mistake(open_api: RunningApi, body: bytes) -> None:
    for method, path in writes(open_api):
        if path.endswith(_NO_JSON) or method == "DELETE":
            continue  # these read no body, or one that is no JSON
        answer = open_api.ask(method, path, content=body, headers={"Content-Type": "application/json"})
        is_problem(answer, answer.status_code)
        assert answer.status_code in {400, 422}, (path, answer.text)


# ---- patience ----


@pytest.mark.parametrize(
    "begun",
    [
        b"",
        b"G",
        b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Slow: ",
        _POST + b"Content-Length: 90\r\n\r\n",
        _POST + b"Transfer-Encoding: chunked\r\n\r\n",
    ],
)
@pytest.mark.parametrize("drips", [False, True])
def test_who_sends_nothing_or_too_slowly_is_disconnected(open_api: RunningApi, begun: bytes, drips: bool) -> None:
    with socket.create_connection(("127.0.0.1", open_api.port), timeout=20) as connection:
        connection.sendall(begun)
        began = time.monotonic()
        connection.settimeout(0.2)
        while time.monotonic() - began < 60:
            try:
                if drips:
                    connection.sendall(b"1\r\n \r\n" if b"chunked" in begun else b" ")
                if not connection.recv(65_536):
                    return
            except TimeoutError:
                continue
            except OSError:
                return
    pytest.fail("still connected after a minute")


def test_hundreds_of_slow_callers_keep_nobody_out_and_are_gone_soon(open_api: RunningApi) -> None:
    begun = (
        b"",
        b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n",
        _POST + b"Content-Length: 90\r\n\r\n{",
    )
    slow = []
    try:
        for number in range(400):
            connection = socket.create_connection(("127.0.0.1", open_api.port), timeout=20)
            connection.sendall(begun[number % len(begun)])
            slow.append(connection)
        assert open_api.ask("GET", "/v1/models").status_code == 200
        label = {"labels": [{"label": "card", "prediction_id": "01" * 16}]}
        assert open_api.ask("POST", "/v1/feedback", json=label).status_code == 200
        end = time.monotonic() + 60
        for connection in slow:
            connection.settimeout(max(0.1, end - time.monotonic()))
            try:
                while connection.recv(65_536):
                    pass
            except ConnectionResetError:
                pass
    finally:
        for connection in slow:
            connection.close()


def test_a_patient_caller_keeps_its_connection(open_api: RunningApi) -> None:
    """What is quick enough is not disconnected: several requests go over one connection."""
    with httpx.Client(base_url=open_api.url, timeout=20) as client:
        for _ in range(5):
            assert client.get("/v1/models").status_code == 200
            assert client.post("/v1/feedback", json={}).status_code == 422
            time.sleep(_IDLE_S / 4)


# ---- answers ----


def test_head_answers_wherever_get_does(open_api: RunningApi) -> None:
    for _, path in [*operations(open_api, "GET"), ("GET", "/openapi.json"), ("GET", "/docs")]:
        got, head = open_api.ask("GET", path), open_api.ask("HEAD", path)
        assert (head.status_code, head.content) == (got.status_code, b"")
        assert head.headers["content-type"] == got.headers["content-type"]


def test_every_answer_forbids_sniffing_framing_and_keeping(open_api: RunningApi) -> None:
    for method, path in [("GET", "/docs"), ("GET", "/v1/models"), ("GET", "/nowhere"), ("POST", "/v1/feedback")]:
        headers = open_api.ask(method, path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert headers["cache-control"] == "no-store"
        assert "access-control-allow-origin" not in headers
        assert "server" not in headers


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/console/nowhere", 404),
        ("GET", "/v1/nowhere", 404),
        ("GET", "/v1/models/", 404),
        ("GET", "/v1/models/nobody", 404),
        ("GET", "/v1/models/" + "x" * 5_000, 404),
        ("GET", "/v1/models/%00", 404),
        ("GET", "/v1/models/..%2f..%2fetc", 404),
        ("GET", "/v1/models/intent/cycles?limit=0", 422),
        ("GET", "/v1/models/intent/cycles?limit=" + "9" * 5_000, 422),
        ("DELETE", "/v1/models", 405),
        ("OPTIONS", "/v1/feedback", 405),
        ("BREW", "/v1/feedback", 405),
        ("POST", "/v1/models/nobody/rollback", 404),
        ("POST", "/v1/models/" + "x" * 5_000 + "/rollback", 404),
        ("POST", "/v1/models/intent/commands/dance", 422),
        ("POST", "/v1/models/intent/commands/approve", 409),
    ],
)
def test_every_error_has_the_one_shape(open_api: RunningApi, method: str, path: str, status: int) -> None:
    answer = open_api.ask(method, path, json={} if method == "POST" else None)
    problem = is_problem(answer, status)
    assert len(problem["detail"]) <= 2_000
    if status == 405:
        for name in answer.headers["allow"].split(", "):
            assert open_api.ask(name, path, headers=_OWN).status_code != 405


@pytest.mark.parametrize("sent", [b"\x16\x03\x01\x02\x00", b"GET / HTTP/9.9\r\n\r\n", b"G\x00T / HTTP/1.1\r\n\r\n"])
def test_what_is_no_http_gets_the_one_shape_too(open_api: RunningApi, sent: bytes) -> None:
    head, _, body = open_api.raw(sent).partition(b"\r\n\r\n")
    assert b" 400 " in head.split(b"\r\n")[0]
    assert b"application/problem+json" in head
    assert json.loads(body)["status"] == 400


def test_an_error_that_nobody_foresaw_tells_nothing_of_the_inside(tmp_path: Path) -> None:
    with answering(tmp_path) as api:

        @api.app.get("/v1/broken")
        def broken() -> None:
            raise RuntimeError("a text of somebody's")

        problem = is_problem(api.ask("GET", "/v1/broken"), 500)
        assert "somebody" not in json.dumps(problem)


def test_whether_it_lives_is_answered_while_many_wait_to_hear_whether_it_is_ready(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("perennial.ops.app.readiness._READY_S", 5.0)
    with answering(tmp_path) as api, socket.create_server(("127.0.0.1", api.parts.settings.triton.grpc_port)) as hung:
        restore_route_file(api.parts.ledger, api.parts.workspace, "intent")
        answered: list[int] = []
        ask = lambda: answered.append(api.ask("GET", "/healthz/ready").status_code)  # noqa: E731
        first, *others = [threading.Thread(target=ask) for _ in range(60)]
        first.start()
        line, _ = hung.accept()  # it is being asked
        for thread in others:
            thread.start()
        assert api.ask("GET", "/healthz/live").json() == {"live": True}
        assert answered == []
        hung.close()
        line.close()
        for thread in (first, *others):
            thread.join()
        assert answered == [503] * 60


# ---- health ----


@pytest.mark.parametrize("header", [{}, {"Authorization": "Bearer a-token-of-nobody"}], ids=["none", "unknown"])
def test_a_stranger_is_told_which_parts_are_well_and_nothing_else(
    closed_api: RunningApi, header: dict[str, str]
) -> None:
    """No server is started behind this API, so that errors, addresses and paths are there to be told."""
    viewer = {"Authorization": f"Bearer {TOKENS['viewer']}"}
    for path in ("/healthz", "/healthz/ready"):
        everything, anonymous = (closed_api.ask("GET", path, headers=given) for given in (viewer, header))
        assert anonymous.status_code == everything.status_code == 503
        assert _leaves(anonymous.json()) <= {bool, "name"}, anonymous.text
        assert len(everything.content) > len(anonymous.content)
    seen, full = (closed_api.ask("GET", "/healthz", headers=given).json() for given in (header, viewer))
    assert seen["live"]
    assert seen["unhealthy"] == full["unhealthy"] != []
    assert seen["parts"].keys() == full["parts"].keys() | {"triton", "scheduler", "model:intent"}
    assert set(full["triton"]) > {"healthy", "servers"}
    assert closed_api.ask("GET", "/healthz/ready", headers=header).json() == {"ready": False}


def _leaves(value: Any) -> set[Any]:
    """Of which kinds the values inside are; the name of a part counts as one."""
    if isinstance(value, dict):
        return set().union(*map(_leaves, value.values())) if value else set()
    if isinstance(value, list):
        return set().union(*map(_leaves, value)) if value else set()
    return {"name" if isinstance(value, str) and "/" not in value and " " not in value else type(value)}
