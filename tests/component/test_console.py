"""The console over HTTP: who is let in, what a page may do, and how it stays as the server is."""

import asyncio
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from typing import Any

import httpx
import pytest
from sqlalchemy import event

from perennial.continual.cycle import Cycle, CyclePlan, CycleState, encode
from perennial.ops.console.desk import PageRoute
from tests.component.api_server import TOKENS, RunningApi, answering, form_secret

pytestmark = [pytest.mark.component]
Opener = Callable[..., "Browser"]
_HTML = {"Accept": "text/html"}


@pytest.fixture(scope="module")
def open_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApi]:
    with answering(tmp_path_factory.mktemp("open"), api={"hosts": '["models.example"]'}) as api:
        yield api


@pytest.fixture(scope="module")
def closed_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApi]:
    with answering(tmp_path_factory.mktemp("closed"), tokens=True) as api:
        yield api


@pytest.fixture
def browse() -> Iterator[Opener]:
    """Open browsers that are closed at the end."""
    with ExitStack() as opened:
        yield lambda site, **headers: opened.enter_context(Browser(site, **headers))


class Browser:
    """As much of a browser as the console needs: cookies, redirects, and the word of where a form stood."""

    def __init__(self, site: RunningApi, **headers: str) -> None:
        self.site = site
        self.client = httpx.Client(
            base_url=site.url, headers={**_HTML, **headers}, timeout=20, verify=False, follow_redirects=True
        )

    def __enter__(self) -> "Browser":
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()

    def see(self, path: str) -> httpx.Response:
        return self.client.get(path, headers={"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "navigate"})

    def send(self, path: str, page: str = "/console", **fields: Any) -> httpx.Response:
        secret = form_secret(self.see(page).text)
        data = {**({} if secret is None else {"secret": secret}), **fields}
        return self.client.post(path, data=data, headers={"Origin": self.site.url, "Referer": f"{self.site.url}{page}"})

    def sign_in(self, role: str) -> "Browser":
        assert "/console/sign-in" not in str(self.send("/console/sign-in", "/console/sign-in", token=TOKENS[role]).url)
        return self


def test_the_root_leads_to_the_overview_in_the_language_of_the_browser(browse: Opener, open_site: RunningApi) -> None:
    seen = browse(open_site).see("/")
    assert seen.status_code == 200
    assert seen.url.path == "/console"
    assert '<html lang="en">' in seen.text
    assert "<bdi>intent</bdi>" in seen.text
    chinese = browse(open_site, **{"Accept-Language": "zh-CN,zh;q=0.9"}).see("/console")
    assert '<html lang="zh">' in chinese.text
    assert "总览" in chinese.text


def test_a_page_may_load_nothing_but_what_is_here(browse: Opener, open_site: RunningApi) -> None:
    seen = browse(open_site).see("/console")
    policy = seen.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert seen.headers["cache-control"] == "no-store"
    for address in re.findall(r'(?:src|href)="([^"]*\.(?:css|js|svg))"', seen.text):
        found = browse(open_site).see(address)
        assert found.status_code == 200
        assert "immutable" in found.headers["cache-control"]
        assert b"http://" not in found.content.replace(b"http://www.w3.org", b"")
    assert browse(open_site).see("/console/static/0/../site.py").status_code == 404


def test_who_is_not_signed_in_is_led_to_the_place_for_it_and_back(browse: Opener, closed_site: RunningApi) -> None:
    browser = browse(closed_site)
    asked = browser.see("/console?x=1")
    assert asked.url.path == "/console/sign-in"
    assert "intent" not in asked.text
    assert browser.send("/console/sign-in", "/console/sign-in", token="pt_wrong").status_code == 403
    assert browser.see("/console").url.path == "/console/sign-in"
    back = browser.send("/console/sign-in", "/console/sign-in", token=TOKENS["viewer"], next="/console?x=1")
    assert back.url.path == "/console"
    (cookie,) = browser.client.cookies.jar
    assert cookie.path == "/console"
    assert cookie.has_nonstandard_attr("HttpOnly")
    assert str(cookie.get_nonstandard_attr("SameSite")).lower() == "strict"
    assert TOKENS["viewer"] not in str(cookie.value)
    kept = str(cookie.value)
    browser.send("/console/sign-out")
    assert browser.see("/console").url.path == "/console/sign-in"
    copied = httpx.get(
        f"{closed_site.url}/console", headers=_HTML, cookies={cookie.name: kept}, follow_redirects=False, verify=False
    )
    assert copied.status_code == 303  # a copy of the cookie is of no use either


def test_a_form_of_a_session_that_is_over_leads_back_to_its_page(browse: Opener, closed_site: RunningApi) -> None:
    page = f"{closed_site.url}/console/models/intent"
    headers = {"Accept": "text/html", "Origin": closed_site.url, "Referer": page}
    told = browse(closed_site).client.post("/console/models/intent/retrain", headers=headers, data={"reason": "x"})
    assert told.status_code == 401
    assert 'name="next" value="/console/models/intent"' in told.text
    assert "this tab keeps what you typed" in told.text
    assert "data-refused" in told.text


@pytest.mark.parametrize(
    "way", ["https://evil.example/", "//evil.example", "/console/../v1", "/console//evil", "\\evil"]
)
def test_signing_in_leads_nowhere_else(browse: Opener, closed_site: RunningApi, way: str) -> None:
    browser = browse(closed_site)
    assert browser.send("/console/sign-in", "/console/sign-in", token=TOKENS["viewer"], next=way).url.path == "/console"


def test_a_session_is_none_for_the_api(browse: Opener, closed_site: RunningApi) -> None:
    browser = browse(closed_site).sign_in("operator")
    assert browser.see("/console").url.path == "/console"
    assert browser.client.get("/v1/models").status_code == 401


def test_a_form_of_elsewhere_is_refused(browse: Opener, open_site: RunningApi) -> None:
    browser = browse(open_site)
    secret = form_secret(browser.see("/console/sign-in").text)
    assert secret is not None
    right, form = {"secret": secret}, "/console/sign-out"
    origin = {"Origin": open_site.url}
    assert browser.client.post(form, data=right, headers=origin, follow_redirects=False).status_code == 303
    wrong = [
        (right, {"Origin": "http://evil.example"}, 403),
        (right, {"Origin": "null"}, 403),
        (right, {}, 403),
        (right, {**origin, "Sec-Fetch-Site": "cross-site"}, 403),
        (right, {**origin, "Host": "evil.example"}, 421),
        (right, {**origin, "Content-Type": "text/plain"}, 415),
        ({"reason": "x"}, origin, 409),
        ({"secret": "0" * 64}, origin, 409),
        ({"secret": "é\ud800".encode("utf-8", "surrogatepass")}, origin, 409),
    ]
    for data, headers, status in wrong:
        told = browser.client.post(form, data=data, headers=headers, follow_redirects=False)
        assert (told.status_code, headers) == (status, headers)
        assert told.headers["content-type"].startswith("text/html")


def test_no_page_and_no_error_waits_for_the_ledger_where_all_requests_wait(
    browse: Opener, open_site: RunningApi
) -> None:
    """A database that hangs must not hang the probe of life too, which ends the process."""
    asked: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        with suppress(RuntimeError):
            asyncio.get_running_loop()
            asked.append(statement)

    engine = open_site.parts.ledger.engine
    event.listen(engine, "before_cursor_execute", note)
    try:
        for path, status in (("nowhere", 404), ("models/gone", 404), ("jobs/gone", 404), ("models/intent", 200)):
            assert browse(open_site).see(f"/console/{path}").status_code == status
    finally:
        event.remove(engine, "before_cursor_execute", note)
    assert asked == []


def test_a_rollback_that_is_sent_twice_leads_to_the_version_on_its_button(
    browse: Opener, open_site: RunningApi
) -> None:
    browser, ledger = browse(open_site), open_site.parts.ledger
    (form,) = re.findall(r'/rollback">(.*?)</form>', browser.see("/console/models/intent").text, flags=re.S)
    fields = {**dict(re.findall(r'name="(\w+)" value="([^"]*)"', form)), "reason": "complaints"}
    assert "Roll back to v1" in form
    origin = {"Origin": open_site.url}
    for _ in range(2):
        assert browser.client.post("/console/models/intent/rollback", data=fields, headers=origin).status_code == 200
        route = ledger.route("intent")
        assert route is not None
        assert (route.champion, route.previous) == (1, 2)


def test_a_command_is_for_the_cycle_that_the_page_showed(browse: Opener, open_site: RunningApi) -> None:
    browser, ledger = browse(open_site), open_site.parts.ledger
    plan = CyclePlan(shadow=True, approval=True, probation=True)
    cycle = Cycle(model="intent", champion=1, plan=plan, state=CycleState.APPROVAL, challenger=3)
    number = ledger.open_cycle("intent", "test", encode(cycle), state="approval")
    approve = "/console/models/intent/commands/approve"
    shown = "/console/models/intent/rollout"
    for other in ({"cycle": str(number + 1)}, {}):
        told = browser.send(approve, shown, reason="looks right", **other)
        assert told.status_code == 409
        assert f"cycle {number} is under way" in told.text
    assert [row for row in ledger.commands("intent") if row.kind == "approve"] == []
    fields = dict(re.findall(r'name="(cycle)" value="([^"]*)"', browser.see(shown).text))
    assert browser.send(approve, shown, reason="looks right", **fields).status_code == 200
    assert [row.kind for row in ledger.commands("intent") if row.kind == "approve"] == ["approve"]
    ledger.close_cycle(number, outcome="aborted")


def test_what_is_not_there_is_told_as_a_page(browse: Opener, open_site: RunningApi) -> None:
    seen = browse(open_site).see("/console/models/<b>x")
    assert seen.status_code == 404
    assert "<b>x" not in seen.text
    assert 'role="alert"' in seen.text


def test_an_open_page_is_told_of_changes_also_after_a_restart(open_site: RunningApi) -> None:
    def lines(stream: Iterator[str], wanted: str) -> str:
        last = ""
        for line in stream:
            last = line.removeprefix("id: ") if line.startswith("id: ") else last
            if line == f"event: {wanted}":
                return last
        raise AssertionError("the stream ended")

    with httpx.Client(base_url=open_site.url, timeout=20, verify=False) as client:
        with client.stream("GET", "/console/live") as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")
            stream = answer.iter_lines()
            first = lines(stream, "hello")
            open_site.parts.ledger.audit("test", "something", "intent", {})
            second = lines(stream, "changed")
        assert second != first
        with client.stream("GET", "/console/live", headers={"Last-Event-ID": second}) as answer:
            assert lines(answer.iter_lines(), "hello") == second  # nothing was missed
        for earlier in (first, "0badf00d", "x" * 5_000):
            with client.stream("GET", "/console/live", headers={"Last-Event-ID": earlier}) as answer:
                assert lines(answer.iter_lines(), "changed") == second


def _routes(site: RunningApi) -> list[tuple[str, str, str | None]]:
    """Every page and form, for things that are there: its method, its path, and the role that it needs."""
    named = {"model": "intent", "version": "1", "report": "1", "job": "watch:intent", "act": "run", "kind": "pause"}
    found = []
    for route in site.app.routes:
        if not isinstance(route, PageRoute):
            continue
        path = re.sub(r"{(\w+)(?::\w+)?}", lambda place: named.get(place[1], "x"), route.path)
        found.append(("POST" if "POST" in (route.methods or ()) else "GET", path, route.needs))
    assert len(found) > 40
    return found


def test_each_page_and_form_is_for_its_role_and_those_above(browse: Opener, closed_site: RunningApi) -> None:
    roles = ("viewer", "labeller", "operator", "admin")
    origin = {"Origin": closed_site.url}
    people = {role: browse(closed_site).sign_in(role).client for role in roles}
    stranger = browse(closed_site).client
    for method, path, needs in _routes(closed_site):
        form: dict[str, Any] = {"data": {"x": "1"}} if method == "POST" else {}
        if path.endswith("/live"):
            continue  # it does not end
        told = stranger.request(method, path, headers=origin, follow_redirects=False, **form)
        if needs is None:
            assert told.status_code in {200, 303, 404, 409}, path
            continue
        assert told.status_code == (401 if method == "POST" else 303), path
        for role, client in people.items():
            if method == "GET" and roles.index(role) >= roles.index(needs):
                continue  # what it shows is another test's
            told = client.request(method, path, headers=origin, follow_redirects=False, **form)
            may = roles.index(role) >= roles.index(needs)
            assert told.status_code == (409 if may else 403), (method, path, role)  # 409: the form has no secret


def test_a_viewer_is_shown_no_text(browse: Opener, closed_site: RunningApi) -> None:
    browser = browse(closed_site).sign_in("viewer")
    seen = browser.see("/console/models/intent")
    assert seen.status_code == 200
    assert '<form class="act panel" method="post"' not in seen.text
    for page in ("rollout", "drift", "data"):
        assert browser.see(f"/console/models/intent/{page}").status_code == 200
    told = browser.see("/console/models/intent/labels")
    assert told.status_code == 403
    assert "labeller is needed" in told.text
