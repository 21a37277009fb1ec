"""Signing in through an identity provider: OpenID Connect's code flow with PKCE, state and nonce.

What must come back with the browser is in a cookie of its own, signed and good for ten minutes: the server keeps
nothing of a sign-in that is never finished.
"""

import base64
import json
import secrets
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import httpx

from perennial.continual.errors import ConfigurationError, DependencyUnreachable, Refused
from perennial.ops.safety.sessions import Sessions
from perennial.ops.settings import OidcSettings

__all__ = ["BACK", "SIGN_IN_S", "Person", "Provider", "SignIn"]

BACK = "/console/sign-in/provider/back"
SIGN_IN_S, _LEEWAY_S, _TIMEOUT_S = 600, 60, 10.0
_AT_ONCE = 8  # each holds one of the threads that answer everybody, as long as the provider takes
_ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "Ed25519")


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """Somebody of whom the provider gave its word: an identifier that never changes, and a name for the account."""

    subject: str
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SignIn:
    """A sign-in under way, as the browser keeps it."""

    state: str
    nonce: str
    verifier: str
    to: str
    ends: int

    @classmethod
    def begun(cls, to: str) -> "SignIn":
        """Return a new one that leads to a page."""
        state, nonce, verifier = (secrets.token_urlsafe(32) for _ in range(3))
        return cls(state=state, nonce=nonce, verifier=verifier, to=to, ends=int(time.time()) + SIGN_IN_S)

    def cookie(self, sessions: Sessions) -> str:
        """Return it signed."""
        body = base64.urlsafe_b64encode(json.dumps(asdict(self)).encode()).decode()
        return f"{body}.{sessions.signature('provider', body)}"

    @classmethod
    def of(cls, cookie: str, sessions: Sessions) -> "SignIn":
        """Return what a cookie keeps.

        Raises:
            Refused: it is none of ours, or its time is over.
        """
        body, _, signature = cookie.partition(".")
        if not secrets.compare_digest(sessions.signature("provider", body).encode(), signature.encode()):
            raise Refused("this browser began no sign-in here; begin again")
        begun = cls(**json.loads(base64.urlsafe_b64decode(body)))
        if begun.ends < time.time():
            raise Refused(f"the sign-in took longer than {SIGN_IN_S // 60} minutes; begin again")
        return begun


class Provider:
    """The identity provider of the settings, asked when somebody signs in."""

    def __init__(self, settings: OidcSettings, *, transport: httpx.BaseTransport | None = None) -> None:
        self._settings, self._transport = settings, transport
        self._back = settings.address.rstrip("/") + BACK
        self._places = threading.BoundedSemaphore(_AT_ONCE)

    def address(self, begun: SignIn) -> str:
        """Return where the browser is sent.

        Raises:
            ConfigurationError: Authlib is not installed; DependencyUnreachable: the provider does not answer.
        """
        with self._client() as client:
            metadata = self._metadata(client)
        try:
            from authlib.oauth2.rfc6749.parameters import prepare_grant_uri
            from authlib.oauth2.rfc7636 import create_s256_code_challenge
        except ModuleNotFoundError as exc:
            raise ConfigurationError(
                "api.oidc needs Authlib, which is not installed; pip install 'perennial-serving[oidc]'"
            ) from exc
        asked = {"state": begun.state, "nonce": begun.nonce, "code_challenge_method": "S256"}
        return str(
            prepare_grant_uri(
                metadata["authorization_endpoint"],
                client_id=self._settings.client_id,
                response_type="code",
                redirect_uri=self._back,
                scope="openid email profile",
                code_challenge=create_s256_code_challenge(begun.verifier),
                **asked,
            )
        )

    def person(self, begun: SignIn, answer: Mapping[str, str]) -> Person:
        """Return who came back with this answer of the provider.

        Raises:
            Refused: the answer is not for this browser, or the provider's word cannot be trusted.
            DependencyUnreachable: the provider does not answer.
        """
        if not secrets.compare_digest(answer.get("state", "").encode(), begun.state.encode()):
            raise Refused("the answer of the identity provider belongs to another sign-in; begin again")
        if "code" not in answer:
            raise Refused(f"the identity provider let nobody in: {answer.get('error', 'no code')[:100]}")
        with self._client() as client:
            metadata = self._metadata(client)
            token = self._token(client, metadata["token_endpoint"], begun, answer["code"])
            keys = self._asked(client, metadata["jwks_uri"])
        claims = self._claims(token, keys, metadata, begun.nonce)
        return self._named(claims)

    @contextmanager
    def _client(self) -> Iterator[httpx.Client]:
        if not self._places.acquire(blocking=False):
            raise DependencyUnreachable(
                f"{_AT_ONCE} people sign in by the identity provider at once already; try again in a moment"
            )
        try:
            with httpx.Client(timeout=_TIMEOUT_S, transport=self._transport) as client:
                yield client
        finally:
            self._places.release()

    def _token(self, client: httpx.Client, url: str, begun: SignIn, code: str) -> dict[str, Any]:
        """Give the code for the provider's word."""
        form = {"grant_type": "authorization_code", "code": code, "redirect_uri": self._back}
        form |= {"code_verifier": begun.verifier, "client_id": self._settings.client_id}
        secret = self._settings.client_secret
        known = None if secret is None else (self._settings.client_id, secret.get_secret_value())
        try:
            told = client.post(url, data=form, auth=known) if known else client.post(url, data=form)
            token: dict[str, Any] = told.json()
        except (httpx.HTTPError, ValueError) as exc:
            raise self._unreachable(exc) from exc
        if not told.is_success:
            raise Refused(f"the identity provider refused the code ({str(token.get('error'))[:100]}); begin again")
        return token

    def _metadata(self, client: httpx.Client) -> dict[str, Any]:
        issuer = self._settings.issuer.rstrip("/")
        metadata = self._asked(client, f"{issuer}/.well-known/openid-configuration")
        if str(metadata.get("issuer", "")).rstrip("/") != issuer:
            raise DependencyUnreachable(
                f"the identity provider calls itself {str(metadata.get('issuer'))[:200]!r}; api.oidc.issuer is {issuer}"
            )
        return metadata

    def _asked(self, client: httpx.Client, url: str) -> dict[str, Any]:
        try:
            document: dict[str, Any] = client.get(url).raise_for_status().json()
        except (httpx.HTTPError, ValueError) as exc:
            raise self._unreachable(exc) from exc
        return document

    def _unreachable(self, exc: Exception) -> DependencyUnreachable:
        issuer = self._settings.issuer
        return DependencyUnreachable(f"the identity provider {issuer} does not answer ({type(exc).__name__})")

    def _claims(
        self, token: Mapping[str, Any], keys: Mapping[str, Any], metadata: Mapping[str, Any], nonce: str
    ) -> Mapping[str, Any]:
        """Check the provider's signed word: by one of its keys, for us, for this sign-in, and not too old."""
        from authlib.oidc.core import CodeIDToken
        from joserfc import jwt
        from joserfc.errors import JoseError
        from joserfc.jwk import KeySet

        offered = metadata.get("id_token_signing_alg_values_supported", ["RS256"])
        algorithms = [each for each in _ALGORITHMS if each in offered]
        if not algorithms:
            raise Refused(f"the identity provider signs by none of {', '.join(_ALGORITHMS)}")
        wanted = {
            "iss": {"essential": True, "value": metadata["issuer"]},
            "aud": {"essential": True, "value": self._settings.client_id},
            "nonce": {"essential": True, "value": nonce},
        }
        sent = {"nonce": nonce, "client_id": self._settings.client_id, "access_token": token.get("access_token")}
        try:
            keys_of_it = KeySet.import_key_set(dict(keys))  # type: ignore[arg-type]
            read = jwt.decode(str(token.get("id_token", "")), keys_of_it, algorithms=algorithms)
            claims = CodeIDToken(read.claims, read.header, wanted, sent)
            claims.validate(leeway=_LEEWAY_S)
        except (JoseError, ValueError, KeyError, TypeError) as exc:
            raise Refused(f"the identity provider's word cannot be trusted ({type(exc).__name__})") from exc
        return dict(read.claims)

    def _named(self, claims: Mapping[str, Any]) -> Person:
        claim = self._settings.claim
        name = claims.get(claim)
        if not isinstance(name, str) or not name:
            raise Refused(f"the identity provider does not tell {claim!r}; name another one in api.oidc.claim")
        if claim == "email" and claims.get("email_verified") is not True:
            raise Refused("the identity provider has not verified this e-mail address")
        return Person(subject=f"{claims['iss']} {claims['sub']}", name=name)
