"""Who may what: every operation and every page, for every role, for one model and for another.

The table is made from the routes of the application, so that a new route is in it from the start.
"""

import asyncio
import json
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from fastapi.routing import APIRoute
from starlette.routing import BaseRoute
from starlette.types import Message, Scope

from perennial.continual.errors import NotFound
from perennial.ops.api.auth import Where, need_of
from perennial.ops.api.guard import Guard
from perennial.ops.commands.accounts import add_token, set_account
from perennial.ops.console.desk import PageRoute
from perennial.ops.console.site import Console
from perennial.ops.safety.roles import Role
from perennial.ops.serving.processes import free_port
from perennial.ops.views.callers import Callers
from tests.component.api_server import TOKENS, RunningApi, answering, form_secret

pytestmark = pytest.mark.component
_OPEN = {  # to everybody: health, the document and its page, the way in
    *("/healthz", "/healthz/live", "/healthz/ready", "/openapi.json", "/docs", "/docs/{name}", "/"),
    *("/console/static/{stamp}/{name}", "/console/sign-in", "/console/sign-out"),
    *("/console/sign-in/provider", "/console/sign-in/provider/back"),
}
_BODIES: dict[str, dict[str, Any]] = {  # of operations that learn from their body which model they are for
    "/v1/feedback": {"labels": [{"label": "card", "text": "a text"}]},
    "/v1/signals": {"signals": [{"user": "u", "item": "i", "signal": "view"}]},
    "/v1/verdicts": {"verdicts": [{"prediction_id": "01" * 16, "verdict": "accepted"}]},
    "/v1/edits": {"edits": [{"accepted": "Hi! It is free.", "approved": "It is free."}]},
    "/v1/erasures": {"key": "nobody", "dry_run": True},
}
_OF_ALL = {"*": ("viewer", "labeller", "operator", "admin")}
_OF_ONE = {"intent": ("viewer", "labeller", "operator", "admin")}
_PASSWORD = "a password of a test"


@pytest.fixture(scope="module")
def identities() -> Iterator[str]:
    """The address of a real identity provider that knows four people."""
    port = free_port()
    known = [
        {"sub": "7", "email": "eve@example.org", "email_verified": True},
        {"sub": "8", "email": "eve@example.org", "email_verified": True},
        {"sub": "9", "email": "frank@example.org", "email_verified": False},
        {"sub": "10", "email": "nobody@example.org", "email_verified": True},
    ]
    command = [sys.executable, "-W", "ignore", "-m", "oidc_provider_mock", "--port", str(port)]
    command += [word for person in known for word in ("--user-claims", json.dumps(person))]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            end = time.monotonic() + 30
            while not _listens(port):
                assert process.poll() is None
                assert time.monotonic() < end
                time.sleep(0.05)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


@pytest.fixture(scope="module")
def people(identities: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RunningApi, dict[str, str]]]:
    """An API with two models, and the tokens of accounts with each role for all models, for one, or for none."""
    own = "http://127.0.0.1:{port}"
    more = {
        "accounts": "true",
        "oidc": f"{{issuer = '{identities}', client_id = 'perennial', client_secret = 's', address = '{own}'}}",
    }
    with answering(tmp_path_factory.mktemp("people"), tokens=True, api=more, further={"bare": "classification"}) as api:
        api.parts.ledger.register_model("bare", {})
        held: dict[str, dict[str, str]] = {"nobody": {}, "mixed": {"*": "viewer", "intent": "operator"}}
        for roles in (_OF_ALL, _OF_ONE):
            held |= {f"{role}-of-{'all' if m == '*' else m}": {m: role} for m, each in roles.items() for role in each}
        tokens = {}
        for name, roles_of_one in held.items():
            set_account(api.parts.ledger, name, actor="test", roles=roles_of_one)
            tokens[name] = add_token(api.parts.ledger, name, label="", days=None, actor="test").token
        yield api, tokens


def _role_at(account: str, model: str) -> Role | None:
    """What an account of the fixture may do for a model, told by its name."""
    if account == "nobody":
        return None
    if account == "mixed":
        return Role.OPERATOR if model == "intent" else Role.VIEWER
    role, _, where = account.partition("-of-")
    return Role[role.upper()] if where in {"all", model} else None


def _path(route: BaseRoute, model: str) -> str:
    path: str = getattr(route, "path", "")
    return re.sub(r"{(\w+)(?::\w+)?}", lambda found: model if found[1] == "model" else "1", path)


async def _asked(guard: Guard, route: BaseRoute, method: str, path: str, token: str | None) -> int:
    """What the guard answers; 200 where it lets the request through."""
    is_page = isinstance(route, PageRoute)
    headers = [(b"host", b"localhost")]
    if token is not None:
        headers.append((b"authorization", f"Bearer {token}".encode()))
    kind = b"application/x-www-form-urlencoded" if is_page else b"application/json"
    headers += [(b"content-type", kind), (b"sec-fetch-site", b"same-origin")]
    scope: Scope = {
        "type": "http", "method": method, "path": path, "raw_path": path.encode(), "query_string": b"",
        "headers": headers, "server": ("127.0.0.1", 80), "root_path": "",
    }  # fmt: skip
    seen: list[int] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        seen.append(message.get("status", 0))

    await guard(scope, receive, send)
    return seen[0]


async def _through(_scope: Scope, _receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b""})


def test_every_route_is_for_its_role_and_for_its_model(people: tuple[RunningApi, dict[str, str]]) -> None:
    """Each route x account x model: 401 for a stranger, 403 below the role for that model, and through otherwise."""
    api, tokens = people
    parts = api.parts
    console = Console(parts.ledger, parts.workspace, None, None, parts.settings.api)  # type: ignore[arg-type]
    guard = Guard(
        _through,
        routes=api.app.routes,
        settings=parts.settings.api,
        callers=Callers(parts.settings.api, parts.ledger),
        pages=console,
    )
    guarded = [route for route in api.app.routes if need_of(route) is not None]
    assert {getattr(route, "path", "") for route in api.app.routes} - {getattr(r, "path", "") for r in guarded} == _OPEN
    assert len(guarded) > 75
    wrong = []

    async def table() -> None:
        for route in guarded:
            need = need_of(route)
            assert need is not None
            needed, where = need
            of_a_model = "{model}" in getattr(route, "path", "")
            for method in (getattr(route, "methods", None) or set()) - {"HEAD"}:
                for model in ("intent", "bare") if of_a_model else ("",):
                    path = _path(route, model)
                    strangers = [await _asked(guard, route, method, path, given) for given in (None, "of-nobody")]
                    wrong.extend((path, "stranger", told) for told in strangers if told != 401)
                    for account, token in tokens.items():
                        places = ("*", "intent", "bare") if where is Where.SOMEWHERE else (model,)
                        held = [role for place in places if (role := _role_at(account, place)) is not None]
                        expected = 200 if held and max(held) >= needed else 403
                        told = await _asked(guard, route, method, path, token)
                        if told != expected:
                            wrong.append((f"{method} {path}", account, told))

    asyncio.run(table())
    assert not wrong


def test_what_learns_its_model_from_the_body_asks_for_the_role_there(
    people: tuple[RunningApi, dict[str, str]],
) -> None:
    api, tokens = people
    found = {
        route.path: need[0]
        for route in api.app.routes
        if isinstance(route, APIRoute) and (need := need_of(route)) is not None and need[1] is Where.SOMEWHERE
        if "POST" in route.methods
    }
    assert found.keys() == _BODIES.keys(), "say here what a new one is sent"
    for path, needed in found.items():
        for account in ("operator-of-intent", "viewer-of-intent", "mixed", "operator-of-all"):
            header = {"Authorization": f"Bearer {tokens[account]}"}
            for model in ("intent", "bare"):
                role = _role_at(account, model)
                status = api.ask("POST", path, json={**_BODIES[path], "model": model}, headers=header).status_code
                assert (status == 403) is (role is None or role < needed), (path, account, model, status)
    every = {**_BODIES["/v1/erasures"]}
    header = {"Authorization": f"Bearer {tokens['operator-of-intent']}"}
    assert api.ask("POST", "/v1/erasures", json=every, headers=header).status_code == 403, "a person of all models"


def test_what_tells_of_several_models_tells_of_those_that_are_seen(
    people: tuple[RunningApi, dict[str, str]],
) -> None:
    api, tokens = people
    html = {"Accept": "text/html", "Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "navigate"}
    lists = [
        getattr(route, "path", "")
        for route in api.app.routes
        if (need := need_of(route)) is not None and need[1] is Where.SOMEWHERE
        if "GET" in (getattr(route, "methods", None) or ()) and not getattr(route, "path", "").endswith("/live")
    ]
    assert {"/v1/models", "/console"} <= set(lists)
    for path in lists:
        more = html if path.startswith("/console") else {}
        one = api.ask("GET", path, headers={**more, "Authorization": f"Bearer {tokens['viewer-of-intent']}"})
        everything = api.ask("GET", path, headers={**more, "Authorization": f"Bearer {tokens['viewer-of-all']}"})
        assert (one.status_code, everything.status_code) == (200, 200), path
        assert "bare" not in one.text, path
    assert "bare" in api.ask("GET", "/v1/models", headers={"Authorization": f"Bearer {tokens['mixed']}"}).text


def test_a_person_signs_in_by_name_and_password_and_is_out_once_blocked(
    people: tuple[RunningApi, dict[str, str]],
) -> None:
    api, _ = people
    set_account(api.parts.ledger, "ann@example.org", actor="test", roles={"intent": "operator"}, password=_PASSWORD)
    with _browser(api) as ann, _browser(api) as stranger:
        told = _sign_in(stranger, name="ann@example.org", password="another password")
        assert told.status_code == 403
        assert "do not belong together" in told.text
        assert _sign_in(ann, name=" Ann@example.org ", password=_PASSWORD).url.path == "/console"
        seen = ann.get("/console/models/intent")
        assert "ann@example.org" in seen.text
        assert ann.get("/console/models/bare").status_code == 403
        assert "/console/audit" not in seen.text, "what belongs to all models is not offered"
        sent = {"secret": form_secret(seen.text) or "", "version": "1", "reason": "a try"}
        api.parts.ledger.put_account("ann@example.org", actor="test", blocked=True)
        assert ann.post("/console/models/intent/promote", data=sent).status_code == 401
        assert ann.get("/console").url.path == "/console/sign-in"
        assert _sign_in(ann, name="ann@example.org", password=_PASSWORD).status_code == 403
        api.parts.ledger.put_account("ann@example.org", actor="test", blocked=False)
        assert ann.get("/console").url.path == "/console/sign-in", "a session that ended stays so"


def test_a_name_waits_after_five_wrong_passwords_in_a_row(people: tuple[RunningApi, dict[str, str]]) -> None:
    api, _ = people
    set_account(api.parts.ledger, "bob", actor="test", roles={"*": "viewer"}, password=_PASSWORD)
    with _browser(api) as bob:
        for _ in range(5):
            assert "do not belong together" in _sign_in(bob, name="bob", password="a guess").text
        assert "Wait half a minute" in _sign_in(bob, name="bob", password=_PASSWORD).text
        assert _sign_in(bob, token=TOKENS["viewer"]).url.path == "/console", "tokens cannot be guessed"


def test_accounts_and_tokens_are_an_administrators_and_leave_their_trace(
    people: tuple[RunningApi, dict[str, str]],
) -> None:
    api, _ = people
    admin = {"Authorization": f"Bearer {TOKENS['admin']}"}
    made = api.ask("PUT", "/v1/accounts/robot", json={"roles": {"bare": "viewer"}}, headers=admin)
    assert made.json() | {"created_at": ""} == {
        "name": "robot", "roles": {"bare": "viewer"}, "blocked": False, "password": False, "subject": None,
        "created_at": "", "tokens": [],
    }  # fmt: skip
    token = api.ask("POST", "/v1/accounts/robot/tokens", json={"label": "nightly", "days": 1}, headers=admin).json()
    robot = {"Authorization": f"Bearer {token['token']}"}
    assert api.ask("GET", "/v1/who", headers=robot).json() == {"name": "robot", "roles": {"bare": "viewer"}}
    assert token["token"] not in api.ask("GET", "/v1/accounts", headers=admin).text
    assert api.ask("PUT", "/v1/accounts/robot", json={"roles": {"bare": "operator"}}, headers=admin).status_code == 200
    assert api.ask("GET", "/v1/who", headers=robot).json()["roles"] == {"bare": "operator"}
    number = token["number"]
    gone = api.ask("DELETE", f"/v1/accounts/robot/tokens/{number}", headers={**admin, "X-Perennial-Request": "1"})
    assert gone.status_code == 204
    assert api.ask("GET", "/v1/who", headers=robot).status_code == 401
    entries = api.parts.ledger.audit_entries(limit=3)
    assert [(entry.action, entry.actor) for entry in entries] == [
        ("token.added", "admin"), ("account.set", "admin"), ("token.revoked", "admin")
    ]  # fmt: skip
    before, after = entries[1].detail["before"], entries[1].detail["after"]
    assert (before["roles"], after["roles"]) == ({"bare": "viewer"}, {"bare": "operator"})
    for wrong, told in (
        ({"roles": {"nowhere": "viewer"}}, "model"),
        ({"roles": {"*": "king"}}, "roles"),
        ({"password": "short"}, "12 to 200"),
    ):
        refused = api.ask("PUT", "/v1/accounts/robot", json=wrong, headers=admin)
        assert refused.status_code == 422
        assert told in refused.json()["detail"]
    for name in ("local", "Ann Smith", "..", "a" * 101):
        assert api.ask("PUT", f"/v1/accounts/{name}", json={}, headers=admin).status_code in {404, 422}, name


def test_the_page_of_the_settings_says_that_there_are_accounts(people: tuple[RunningApi, dict[str, str]]) -> None:
    api, tokens = people
    with _browser(api) as operator:
        _sign_in(operator, token=tokens["operator-of-all"])
        seen = operator.get("/console/settings").text
    assert "perennial account list" in seen
    assert "everybody on this machine" not in seen


def test_a_person_signs_in_by_an_identity_provider(people: tuple[RunningApi, dict[str, str]]) -> None:
    """The whole way, as a browser goes it: to the provider, back with a code, and into the account of that name."""
    api, _ = people
    set_account(api.parts.ledger, "eve@example.org", actor="test", roles={"bare": "labeller"})
    set_account(api.parts.ledger, "frank@example.org", actor="test", roles={"bare": "labeller"})
    with _browser(api) as eve, _browser(api) as other:
        back = _through_provider(eve, sub="7", to="/console/models/bare")
        seen = eve.get(back)
        assert (seen.status_code, seen.history) == (200, []), "no redirect: it would leave the strict cookie behind"
        assert 'http-equiv="refresh" content="0; url=/console/models/bare"' in seen.text
        assert "eve@example.org" in eve.get("/console/models/bare").text
        assert eve.get("/console/models/intent").status_code == 403
        assert api.parts.ledger.account("eve@example.org").subject is not None
        assert eve.get(back).status_code == 409, "an answer is taken once"
        assert other.get(back).status_code == 409, "and in the browser that asked for it alone"
        for sub, told in (("8", "another person"), ("9", "not verified"), ("10", "no account is named")):
            with _browser(api) as stranger:
                refused = stranger.get(_through_provider(stranger, sub=sub, to="/console"))
                assert refused.status_code == 409
                assert told in refused.text
                assert stranger.get("/console").url.path == "/console/sign-in"
        assert _through_provider(eve, sub="7", to="https://evil.example").startswith(api.url)
    names = {account.name for account in api.parts.ledger.accounts()}
    assert "nobody@example.org" not in names


def _through_provider(browser: httpx.Client, *, sub: str, to: str) -> str:
    """Where the provider sends a browser back to that began a sign-in and chose this person."""
    begun = browser.get("/console/sign-in/provider", params={"next": to}, follow_redirects=False)
    chosen = httpx.post(begun.headers["location"], data={"sub": sub}, timeout=20)
    assert chosen.status_code in {302, 303}, chosen.text
    return str(chosen.headers["location"])


def _listens(port: int) -> bool:
    with socket.socket() as connection:
        return connection.connect_ex(("127.0.0.1", port)) == 0


def _browser(api: RunningApi) -> httpx.Client:
    headers = {"Accept": "text/html", "Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "navigate"}
    return httpx.Client(base_url=api.url, headers=headers, timeout=20, verify=False, follow_redirects=True)


def _sign_in(browser: httpx.Client, **fields: str) -> httpx.Response:
    secret = form_secret(browser.get("/console/sign-in").text) or ""
    return browser.post("/console/sign-in", data={"secret": secret, **fields})


def test_an_administrator_makes_changes_and_blocks_accounts_at_the_console(
    people: tuple[RunningApi, dict[str, str]],
) -> None:
    api, tokens = people
    ledger = api.parts.ledger

    with _browser(api) as browser:
        assert _sign_in(browser, token=tokens["admin-of-all"]).url.path == "/console"

        def send(act: str, **fields: str) -> httpx.Response:
            secret = form_secret(browser.get("/console/people").text) or ""
            return browser.post(f"/console/people/{act}", data={"secret": secret, **fields})

        told = send("set", account="Gina@example.org", model="intent", role="labeller", password=_PASSWORD)
        assert (told.status_code, told.url.params["told"]) == (200, "changed")
        send("set", account="gina@example.org", model="*", role="viewer")
        gina = ledger.account("gina@example.org")
        assert gina.roles == {"*": Role.VIEWER, "intent": Role.LABELLER}
        with _browser(api) as hers:
            assert _sign_in(hers, name="gina@example.org", password=_PASSWORD).url.path == "/console"
            assert hers.get("/console/people").status_code == 403
            assert "/console/people" not in hers.get("/console").text

        made = send("token", account=gina.name, label="nightly labels", days="30")
        (token,) = re.findall(r"<code>([\w-]{30,})</code>", made.text)
        who = {"Authorization": f"Bearer {token}"}
        assert api.ask("get", "/v1/who", headers=who).json()["name"] == gina.name
        assert token not in browser.get("/console/people").text
        (held,) = ledger.account(gina.name).tokens
        send("revoke", account=gina.name, number=str(held.number))
        assert api.ask("get", "/v1/who", headers=who).status_code == 401

        send("block", account=gina.name, blocked="yes")
        assert ledger.account(gina.name).blocked
        send("set", account=gina.name, model="intent", role="none")
        assert ledger.account(gina.name).roles == {"*": Role.VIEWER}
        send("remove", account=gina.name)
        assert send("block", account=gina.name, blocked="no").status_code == 404
        with pytest.raises(NotFound):
            ledger.account(gina.name)

        for act in ("set", "block", "remove"):
            refused = send(act, account="admin-of-all", model="*", role="viewer", blocked="yes")
            assert "your own account" in refused.text
        assert ledger.account("admin-of-all").roles == {"*": Role.ADMIN}
        for act, fields in (("token", {"days": "soon"}), ("set", {"role": "king", "model": "*"}), ("fly", {})):
            assert send(act, account="nobody", **fields).status_code in {404, 422}
        without = browser.post("/console/people/remove", data={"account": "nobody"})
        assert without.status_code == 409
        assert ledger.account("nobody")
    actions = [(entry.action, entry.actor) for entry in ledger.audit_entries(limit=12)]
    assert {("account.set", "admin-of-all"), ("token.added", "admin-of-all")} <= set(actions)
    assert {("token.revoked", "admin-of-all"), ("account.removed", "admin-of-all")} <= set(actions)
