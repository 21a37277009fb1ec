"""Messages as signed HTTP posts.

The receiver recomputes HMAC-SHA256 over `TIMESTAMP.BODY` with the shared secret and compares it with the header
`Perennial-Signature: t=TIMESTAMP,v1=HEX`; an old timestamp tells a replayed post. `verify_signature`
does it.
"""

import hashlib
import hmac
import json
import time
from collections.abc import Callable, Mapping
from typing import Any

from perennial.continual.errors import ConfigurationError, DependencyUnreachable
from perennial.ops.notify.message import Message

__all__ = ["SIGNATURE_HEADER", "WebhookChannel", "sign", "verify_signature"]

SIGNATURE_HEADER = "Perennial-Signature"
_RETRIED = frozenset({408, 425, 429})


def sign(secret: str, body: bytes, timestamp: int) -> str:
    """Return the signature header's value for a body posted at a Unix time in seconds."""
    digest = hmac.new(secret.encode(), str(timestamp).encode() + b"." + body, hashlib.sha256).hexdigest()
    return f"t={timestamp},v1={digest}"


def verify_signature(secret: str, body: bytes, header: str, *, now: float, tolerance_s: float = 300) -> bool:
    """Return whether a received body was signed with the secret at most `tolerance_s` ago."""
    parts = dict(part.partition("=")[::2] for part in header.split(","))
    if not parts.get("t", "").isdigit():
        return False
    timestamp = int(parts["t"])
    right = hmac.compare_digest(sign(secret, body, timestamp).encode(), header.encode())
    return right and abs(now - timestamp) <= tolerance_s


class WebhookChannel:
    """Posts each message as JSON, signed when there is a secret.

    A refused connection, a timeout, a 5xx, 408, 425 or 429 is tried again, `attempts` times in all with growing pauses;
    any other answer is final. Redirects are not followed, so that a signed body goes nowhere else.
    """

    def __init__(
        self,
        url: str,
        *,
        secret: str | None = None,
        name: str = "webhook",
        attempts: int = 3,
        timeout_s: float = 5.0,
        headers: Mapping[str, str] | None = None,
        pause: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if not url.startswith(("http://", "https://")):
            raise ConfigurationError(f"webhook {name}: the url must begin with http:// or https://")
        if attempts < 1:
            raise ConfigurationError(f"webhook {name}: attempts {attempts} must be at least 1")
        self.name = name
        self._url = url
        self._secret = secret
        self._attempts = attempts
        self._timeout_s = timeout_s
        self._headers = dict(headers or {})
        self._pause = pause
        self._clock = clock

    def send(self, message: Message) -> None:
        """Post the message.

        Raises:
            DependencyUnreachable: no attempt was answered with 2xx.
        """
        import httpx

        body = json.dumps(message.values(), ensure_ascii=False, sort_keys=True, default=str).encode()
        seen = ""
        with httpx.Client(timeout=self._timeout_s, follow_redirects=False) as client:
            for attempt in range(1, self._attempts + 1):
                try:
                    answer = client.post(self._url, content=body, headers=self._all_headers(message, body))
                except httpx.HTTPError as error:
                    seen = f"{type(error).__name__}: {error}"
                else:
                    if answer.is_success:
                        return
                    seen = f"status {answer.status_code}"
                    if answer.status_code < 500 and answer.status_code not in _RETRIED:
                        break
                if attempt < self._attempts:
                    self._pause(min(0.5 * 2 ** (attempt - 1), 10.0))
        raise DependencyUnreachable(
            f"webhook {self.name} did not take {message.alert} of {message.model} ({seen}, attempt {attempt} of "
            f"{self._attempts}); check the receiver at {self._shown()}"
        )

    def _all_headers(self, message: Message, body: bytes) -> dict[str, str]:
        headers: dict[str, Any] = self._headers | {"Content-Type": "application/json"}
        headers["Idempotency-Key"] = hashlib.sha256(
            "\n".join((message.model, message.alert, message.episode)).encode()
        ).hexdigest()
        if self._secret is not None:
            headers[SIGNATURE_HEADER] = sign(self._secret, body, int(self._clock()))
        return headers

    def _shown(self) -> str:
        """The URL without what may be secret in it: user, query, and a path that may hold a token."""
        import httpx

        url = httpx.URL(self._url)
        return f"{url.scheme}://{url.host}" + (f":{url.port}" if url.port else "")
