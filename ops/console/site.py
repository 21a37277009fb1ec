"""The console: its pages, who visits them, and how they are told what goes wrong."""

import logging
import re
import secrets
from collections.abc import Mapping
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from urllib.parse import urlsplit

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import Request, cookie_parser
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response, StreamingResponse
from starlette.types import Scope

from perennial.continual.errors import NotFound, PerennialError, Refused
from perennial.ops.commands.accounts import PasswordDoor, account_of
from perennial.ops.console import charts
from perennial.ops.console.desk import ConsoleControl, Desk, PageRoute, Shown, to
from perennial.ops.console.figures import Figures
from perennial.ops.console.identity import BACK, SIGN_IN_S, Provider, SignIn
from perennial.ops.console.language import chosen_language
from perennial.ops.console.live import Pulse
from perennial.ops.console.pages import PAGES
from perennial.ops.console.visit import Done, Page, Raw, Visit
from perennial.ops.console.words import CATALOGUES
from perennial.ops.ledger import Ledger
from perennial.ops.safety.roles import BY_SESSION, CALLER, EVERY, Caller
from perennial.ops.safety.sessions import Sessions
from perennial.ops.safety.tokens import hashed
from perennial.ops.settings import ApiSettings
from perennial.ops.store.event_feed import EventFeed
from perennial.ops.store.workspace import Workspace
from perennial.ops.views.callers import Callers, session_of
from perennial.ops.views.overview import pulse_of

__all__ = ["Console"]

logger = logging.getLogger(__name__)
_HERE = Path(__file__).parent
_ROOT = "/console"
_STATUS = {"": 200, "over": 401}  # of the page to sign in, by what was wrong
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
_KINDS = {".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}
_SEAT = re.compile("[0-9a-f]{16}")
_A_YEAR = "public, max-age=31536000, immutable"


class Console:
    """See `perennial.ops.api.pages.Pages`."""

    def __init__(
        self,
        ledger: Ledger,
        workspace: Workspace,
        control: ConsoleControl,
        feed: EventFeed,
        settings: ApiSettings,
    ) -> None:
        self._ledger, self._feed, self._settings = ledger, feed, settings
        self._callers, self._door = Callers(settings, ledger), PasswordDoor(ledger)
        self._provider = Provider(settings.oidc) if settings.oidc.issuer else None
        self._by_tls = settings.oidc.address.startswith("https://")
        self._sessions = Sessions(workspace.state / "console.json")
        self._templates = Environment(
            loader=FileSystemLoader(_HERE / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
        )
        self._templates.globals |= {"charts": charts, "to": to, "asset": _asset}
        self._process = secrets.token_hex(4)  # a page that comes back to another one is told
        self.pulse = Pulse(self._look)
        desk = Desk(ledger, workspace, control, mark=self.pulse.mark, visit=self._visit, respond=self._respond)
        self._add_own(desk)
        for add in PAGES:
            add(desk)
        live = PageRoute(f"{_ROOT}/live", self._live, methods=["GET"], needs="viewer", somewhere=True)
        self.routes = (*desk.routes, live)

    def covers(self, path: str) -> bool:
        """See `Pages`."""
        return path in {"/", _ROOT} or path.startswith(f"{_ROOT}/")

    def cookie_of(self, headers: Headers) -> str:
        """See `Pages`."""
        return cookie_parser(headers.get("cookie", "")).get(self._sessions.cookie, "")

    def signed_in(self, cookie: str, callers: Mapping[str, Caller]) -> Caller | None:
        """See `Pages`."""
        begun_with = self._sessions.owner_of(cookie, callers)
        return None if begun_with is None else callers[begun_with]

    def told(self, scope: Scope, status: int, detail: str) -> Response:
        """See `Pages`. This asks no ledger: every other request waits until it is told."""
        request = Request(scope)
        if status == 401:
            if request.method in {"GET", "HEAD"} and scope["path"] != f"{_ROOT}/live":
                asked = scope["path"] + (f"?{query}" if (query := scope["query_string"].decode("latin-1")) else "")
                return self._guarded(RedirectResponse(to(f"{_ROOT}/sign-in", {"next": asked}), status_code=303))
            if request.method in {"GET", "HEAD"}:
                return PlainTextResponse(detail, status_code=401)
        back = scope["path"] if request.method in {"GET", "HEAD"} else _back(request)
        try:
            if status == 401:
                page = self._sign_in({"next": back}, wrong="over")
            else:
                page = Page("error.html", {"detail": detail, "back": back}, status)
            return self._respond(self._visit(request, {}), page)
        except Exception:  # a page that cannot tell of a fault must not hide it
            logger.exception("console.error_page_failed")
            return PlainTextResponse(detail, status_code=status)

    def leave(self) -> None:
        """End the streams of open pages; they come back to the next process."""
        self.pulse.leave()

    def _look(self) -> object:
        try:
            return pulse_of(self._ledger), self._process, self._feed.last
        except PerennialError as exc:
            return str(exc)

    def _visit(self, request: Request, form: Mapping[str, str]) -> Visit:
        cookie = self.cookie_of(request.headers) if request.scope.get(BY_SESSION) else ""
        return Visit(
            path=request.url.path,
            language=chosen_language(request.headers.get("accept-language")),
            caller=request.scope.get(CALLER),
            model=request.path_params.get("model", EVERY),
            open=not self._callers.asks,
            cookie=cookie,
            provider_cookie=cookie_parser(request.headers.get("cookie", "")).get(
                f"{self._sessions.cookie}-provider", ""
            ),
            seat=self._seat(request.headers) or secrets.token_hex(8),
            secure=request.headers.get("origin", "").startswith("https://"),
            form_secret=self._sessions.form_secret(cookie),
            query=dict(request.query_params),
            form=form,
        )

    def _seat(self, headers: Headers) -> str:
        seat = cookie_parser(headers.get("cookie", "")).get(f"{self._sessions.cookie}-seat", "")
        return seat if _SEAT.fullmatch(seat) else ""

    def _respond(self, visit: Visit, shown: Shown) -> Response:
        match shown:
            case Page():
                return self._guarded(self._rendered(visit, shown))
            case Done():
                return self._guarded(self._moved(visit, shown))
            case Raw():
                response = Response(shown.content, headers={"Content-Type": shown.kind})
                response.headers["Content-Security-Policy"] = shown.policy
                if shown.kept:
                    response.headers["Cache-Control"] = _A_YEAR
                return response
            case _:
                return shown

    def _rendered(self, visit: Visit, page: Page) -> Response:
        figures = Figures(visit.language, model=visit.model)
        body = self._templates.get_template(page.template).render(
            t=figures.say,
            f=figures,
            visit=visit,
            told=visit.query.get("told", ""),
            says=CATALOGUES[visit.language],
            **page.facts,
        )
        response = HTMLResponse(body, status_code=page.status)
        if page.seated:
            seat = f"{self._sessions.cookie}-seat"
            response.set_cookie(seat, visit.seat, path=_ROOT, httponly=True, samesite="strict", secure=visit.secure)
        response.headers["Content-Language"] = visit.language
        response.headers["Vary"] = "Accept-Language, Cookie"
        return response

    def _moved(self, visit: Visit, done: Done) -> Response:
        path, _, place = done.to.partition("#")
        joined = "&" if "?" in path else "?"
        target = (f"{path}{joined}told={done.told}" if done.told else path) + (f"#{place}" if place else "")
        response = RedirectResponse(target, status_code=303)
        if done.cookie is not None:
            self._keep_session(response, done.cookie, secure=visit.secure)
        return response

    def _keep_session(self, response: Response, cookie: str, *, secure: bool) -> None:
        """Have the browser keep a session, or forget the one that it has."""
        lasts = self._sessions.lasts_s if cookie else 0
        name = self._sessions.cookie
        response.set_cookie(name, cookie, max_age=lasts, path=_ROOT, secure=secure, httponly=True, samesite="strict")

    def _keep_sign_in(self, response: Response, cookie: str) -> None:
        """Likewise of a sign-in at the provider, whose answer comes from elsewhere: so that cookie is lax."""
        name, lasts = f"{self._sessions.cookie}-provider", SIGN_IN_S if cookie else 0
        response.set_cookie(name, cookie, max_age=lasts, path=BACK, secure=self._by_tls, httponly=True, samesite="lax")

    def _asked_provider(self) -> Provider:
        if self._provider is None:
            raise NotFound("no identity provider is set; api.oidc in perennial.toml names one")
        return self._provider

    def _guarded(self, response: Response) -> Response:
        response.headers["Content-Security-Policy"] = _POLICY
        response.headers["Referrer-Policy"] = "same-origin"  # without one a form's Origin is null, and is refused
        return response

    def _let_in(self, form: Mapping[str, str]) -> str | None:
        """Return what the session of whoever filled in this form begins with; None where nobody is let in."""
        if self._settings.accounts and form.get("name", "").strip():
            account = self._door.let_in(form["name"], form.get("password", ""))
            return None if account is None else session_of(account)
        token = form.get("token", "").strip()
        return hashed(token) if token and self._callers.with_token(token) is not None else None

    def _sign_in(self, asked: Mapping[str, str], *, wrong: str = "") -> Page:
        facts = {"next": _own(asked.get("next", "")), "wrong": wrong, "accounts": self._settings.accounts}
        facts["provider"] = self._provider is not None
        return Page("sign_in.html", facts, _STATUS.get(wrong, 403))

    async def _live(self, request: Request) -> Response:
        if self.pulse.open >= self.pulse.most:
            raise HTTPException(503, f"{self.pulse.most} pages listen already; this one shows what was when it loaded")
        last = request.headers.get("last-event-id") or request.query_params.get("last", "")
        return StreamingResponse(self.pulse.events(last[:100]), media_type="text/event-stream")

    def _add_own(self, desk: Desk) -> None:
        @desk.page("/", needs=None)
        def root(_: Visit) -> Shown:
            return Done(to=_ROOT)

        @desk.page(f"{_ROOT}/static/{{stamp}}/{{name}}", needs=None)
        def static(_: Visit, stamp: str, name: str) -> Shown:
            del stamp  # of the content, for the browser's sake
            if (found := _files().get(name)) is None:
                raise HTTPException(404, "there is no such file")
            return Raw(content=found, kind=_KINDS[Path(name).suffix], policy="default-src 'none'", kept=True)

        @desk.page(f"{_ROOT}/sign-in", needs=None)
        def sign_in(visit: Visit) -> Shown:
            return self._sign_in(visit.query)

        @desk.form(f"{_ROOT}/sign-in", needs=None)
        def signed_in(visit: Visit) -> Shown:
            try:
                begun_with = self._let_in(visit.form)
            except Refused:
                return self._sign_in(visit.form, wrong="wait")
            if begun_with is None:
                return self._sign_in(visit.form, wrong="name" if visit.form.get("name", "").strip() else "token")
            return Done(to=_own(visit.form.get("next", "")), cookie=self._sessions.begin(begun_with))

        @desk.page(f"{_ROOT}/sign-in/provider", needs=None)
        def to_provider(visit: Visit) -> Shown:
            begun = SignIn.begun(_own(visit.query.get("next", "")))
            response = self._respond(visit, Done(to=_own("")))
            response.headers["Location"] = self._asked_provider().address(begun)
            self._keep_sign_in(response, begun.cookie(self._sessions))
            return response

        @desk.page(BACK, needs=None)
        def back_from_provider(visit: Visit) -> Shown:
            begun = SignIn.of(visit.provider_cookie, self._sessions)
            person = self._asked_provider().person(begun, visit.query)
            new_role = self._settings.oidc.new_accounts
            account = account_of(self._ledger, person.subject, person.name, new_role=new_role)
            # a page and no redirect: a browser that comes from elsewhere sends no strict cookie along a redirect
            response = self._respond(visit, Page("signed_in.html", {"next": _own(begun.to)}))
            self._keep_session(response, self._sessions.begin(session_of(account)), secure=self._by_tls)
            self._keep_sign_in(response, "")
            return response

        @desk.form(f"{_ROOT}/sign-out", needs=None)
        def sign_out(visit: Visit) -> Shown:
            self._sessions.end(visit.cookie)
            return Done(to=f"{_ROOT}/sign-in", cookie="")


def _own(path: str) -> str:
    """A way to go on that leads to a page of the console, and nowhere else."""
    place = path.partition("?")[0]
    strange = any(part in place for part in ("//", "\\", "..", "%")) or not path.isprintable()
    return _ROOT if strange or (not place.startswith(f"{_ROOT}/") and place != _ROOT) else path


def _back(request: Request) -> str:
    """The page that a form stood on, by the browser's word; it is of this server, for only such forms are taken."""
    parts = urlsplit(request.headers.get("referer", ""))
    return _own(parts.path + (f"?{parts.query}" if parts.query else ""))


@lru_cache(maxsize=1)
def _files() -> Mapping[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((_HERE / "static").iterdir()) if path.suffix in _KINDS}


@lru_cache(maxsize=16)
def _asset(name: str) -> str:
    """The address of a file, another one for each content: browsers keep it."""
    return f"{_ROOT}/static/{sha256(_files()[name]).hexdigest()[:12]}/{name}"
