"""A document by its address: only if it changed, within a time and a size, and from nobody's private network."""

import ipaddress
import json
import socket
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import urljoin, urlsplit, urlunsplit

from perennial.continual.errors import DataError, DependencyUnreachable

__all__ = ["Fetched", "fetch"]

_REDIRECTS = 3
_AGENT = "perennial-feeds"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """The document, None where it is as it was; `mark` makes the next call ask only for a newer one."""

    body: bytes | None
    mark: str


def fetch(url: str, mark: str, *, timeout_s: float, most_bytes: int, private: bool) -> Fetched:
    """The document of an address.

    The name is looked up once, and the connection goes to what was looked at: a name that answers otherwise the second
    time leads nowhere else. Each redirect is looked at in the same way. Nothing packed is taken.

    Args:
        url: http or https.
        mark: of the last call; empty at first.
        timeout_s: for everything together.
        most_bytes: of the document.
        private: whether addresses of this machine and of private networks are allowed.

    Raises:
        DataError: the address cannot be used, leads where it must not, or the document is too long.
        DependencyUnreachable: nobody answers, or not with a document.
    """
    import httpx

    ends = time.monotonic() + timeout_s
    known = json.loads(mark) if mark else {}
    at = url
    try:
        with httpx.Client(follow_redirects=False, trust_env=False) as client:
            for _ in range(_REDIRECTS + 1):
                request = _request(client, at, known if at == url else {}, private=private, left_s=_left(ends))
                response = client.send(request, stream=True)
                try:
                    if response.has_redirect_location:
                        at = urljoin(at, response.headers.get("location", ""))
                        continue
                    if response.status_code == httpx.codes.NOT_MODIFIED:
                        return Fetched(body=None, mark=mark)
                    if response.status_code != httpx.codes.OK:
                        raise DependencyUnreachable(
                            f"feed {_shown(url)} answered {response.status_code}; see its address"
                        )
                    body = _body(response, ends, most_bytes, url)
                    return Fetched(body=body, mark=_mark_of(response.headers))
                finally:
                    response.close()
    except (httpx.HTTPError, OSError) as exc:
        raise DependencyUnreachable(
            f"feed {_shown(url)} cannot be read ({type(exc).__name__}: {exc}); try later"
        ) from exc
    raise DataError(f"feed {_shown(url)} redirects more than {_REDIRECTS} times; give the address that it ends at")


def _request(client: Any, url: str, known: dict[str, str], *, private: bool, left_s: float) -> Any:
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.username or parts.password:
        raise DataError(f"feed {_shown(url)} is no plain http or https address; give one without a user's name")
    address = _address(parts.hostname, parts.port or (443 if parts.scheme == "https" else 80), private=private, url=url)
    host = f"[{address}]" if ":" in address else address
    place = host if parts.port is None else f"{host}:{parts.port}"
    pinned = urlunsplit((parts.scheme, place, parts.path or "/", parts.query, ""))
    headers = {"Host": parts.netloc, "Accept-Encoding": "identity", "User-Agent": _AGENT}
    asked = {"If-None-Match": known.get("etag"), "If-Modified-Since": known.get("modified")}
    headers |= {name: value for name, value in asked.items() if value}
    return client.build_request(
        "GET", pinned, headers=headers, timeout=left_s, extensions={"sni_hostname": parts.hostname}
    )


def _address(name: str, port: int, *, private: bool, url: str) -> str:
    """The first address of a name, after a look at all of them."""
    try:
        found = [str(info[4][0]) for info in socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)]
    except (OSError, UnicodeError) as exc:
        raise DependencyUnreachable(f"feed {_shown(url)}: nobody knows {name!r} ({exc}); see its spelling") from exc
    for address in found:
        ip = ipaddress.ip_address(address.partition("%")[0])
        ip = getattr(ip, "ipv4_mapped", None) or ip
        if not private and (not ip.is_global or ip.is_multicast):
            raise DataError(
                f"feed {_shown(url)} lies at {address}, in a private network; say private_addresses = true for this "
                "feed if that is meant"
            )
    return found[0]


def _body(response: Any, ends: float, most_bytes: int, url: str) -> bytes:
    if response.headers.get("content-encoding", "identity") != "identity":
        raise DataError(f"feed {_shown(url)} answers packed, though asked not to; it is not read")
    body = bytearray()
    for chunk in response.iter_raw():
        body += chunk
        if len(body) > most_bytes:
            raise DataError(
                f"feed {_shown(url)} is longer than {most_bytes} bytes; raise most_bytes if it is meant to be"
            )
        _left(ends)
    return bytes(body)


def _mark_of(headers: Any) -> str:
    found = {"etag": headers.get("etag", ""), "modified": headers.get("last-modified", "")}
    return json.dumps({name: value for name, value in found.items() if value})


def _left(ends: float) -> float:
    left = ends - time.monotonic()
    if left <= 0:
        raise TimeoutError("its time is over")
    return left


def _shown(url: str) -> str:
    """The address without what a secret could be in."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname}{parts.path}"[:200]
