"""Which host a request may name and which web page may send one: against DNS rebinding and forged requests."""

import re
from collections.abc import Collection
from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException

from perennial.ops.safety.addresses import is_loopback

__all__ = ["REQUEST_HEADER", "Hosts", "check_form", "check_page", "check_write"]

REQUEST_HEADER = "X-Perennial-Request"
_HOST = re.compile(r"(?P<name>\[[0-9a-fA-F:.]+\]|[^\s:\[\]@/]+)(?::[0-9]{1,5})?")
_OWN_PAGES = frozenset({"same-origin", "none"})


class Hosts:
    """The names that this server answers to."""

    def __init__(self, listens_on: str, named: Collection[str]) -> None:
        self._names = {"localhost", *(_plain(name) for name in named)}
        if not _is_wildcard(listens_on):
            self._names.add(_plain(listens_on))

    def check(self, headers: Headers, arrived_at: str | None) -> None:
        """Let a request pass that names this server, or the very address that it arrived at.

        A page whose DNS name was made to point here sends its own name, which is none of these.

        Raises:
            HTTPException: 400 without one readable Host, 421 with a foreign one.
        """
        hosts = headers.getlist("host")
        match = _HOST.fullmatch(hosts[0]) if len(hosts) == 1 else None
        if match is None:
            raise HTTPException(400, "the request needs one Host header that names a host, and a port at most")
        name = _plain(match["name"])
        if name in self._names or is_loopback(name) or (arrived_at is not None and name == _plain(arrived_at)):
            return
        raise HTTPException(
            421, f"this server does not answer for host {name[:100]!r}; name it in api.hosts of perennial.toml"
        )


def check_page(method: str, headers: Headers) -> None:
    """Refuse what a browser sends on behalf of a page from elsewhere; only a link to a GET may come from there.

    Raises:
        HTTPException: 403.
    """
    site = headers.get("sec-fetch-site", "none")
    followed = method in {"GET", "HEAD"} and headers.get("sec-fetch-mode") == "navigate"
    if site not in _OWN_PAGES and not followed:
        raise HTTPException(403, f"a page from elsewhere sent this request (Sec-Fetch-Site: {site[:40]})")
    origin = headers.get("origin")
    if origin is not None and not _same(origin, headers["host"]):
        raise HTTPException(403, f"a page from elsewhere sent this request (Origin: {origin[:100]!r})")


def check_write(headers: Headers) -> None:
    """Ask a write for what no page can send across sites without asking first.

    Raises:
        HTTPException: 415.
    """
    kind = _content_type(headers)
    if kind == "application/json" or (kind.startswith("application/") and kind.endswith("+json")):
        return
    if headers.getlist(REQUEST_HEADER) == ["1"]:
        return
    raise HTTPException(
        415, f"a write needs Content-Type: application/json, or the header {REQUEST_HEADER}: 1 where it has no body"
    )


def check_form(headers: Headers) -> None:
    """Ask a page's form for its kind, and for a browser's word that it came from a page of this very server.

    Raises:
        HTTPException: 403 without that word, 415 for another kind.
    """
    if _content_type(headers) != "application/x-www-form-urlencoded":
        raise HTTPException(415, "a form of the console comes as application/x-www-form-urlencoded")
    if "origin" not in headers and headers.get("sec-fetch-site") != "same-origin":
        raise HTTPException(403, "the browser does not say that the form came from a page of this server")


def _content_type(headers: Headers) -> str:
    """What the body is said to be; nothing where that is not said once."""
    types = headers.getlist("content-type")
    return types[0].partition(";")[0].strip().lower() if len(types) == 1 else ""


def _is_wildcard(host: str) -> bool:
    try:
        return ip_address(host.strip("[]")).is_unspecified
    except ValueError:
        return not host


def _plain(host: str) -> str:
    name = host.strip("[]").rstrip(".").lower()
    try:
        return str(ip_address(name))
    except ValueError:
        return name


def _same(origin: str, host: str) -> bool:
    """Whether a page's origin is the host that it asks."""
    try:
        parts = urlsplit(origin)
    except ValueError:
        return False
    usual = {"http": ":80", "https": ":443"}.get(parts.scheme)
    if usual is None:
        return False
    return parts.netloc.lower().removesuffix(usual) == host.lower().removesuffix(usual)
