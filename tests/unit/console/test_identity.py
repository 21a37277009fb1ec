"""The word of an identity provider is taken when all of it is right, and never otherwise."""

import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from joserfc import jwt
from joserfc.jwk import KeySet, OctKey, RSAKey

from perennial.continual.errors import DependencyUnreachable, PerennialError, Refused
from perennial.ops.console.identity import Person, Provider, SignIn
from perennial.ops.settings import OidcSettings

_ISSUER = "https://id.example"
_KEY, _OTHER = RSAKey.generate_key(2048, {"kid": "one"}), RSAKey.generate_key(2048, {"kid": "one"})


def provider(
    begun: SignIn,
    claims: Mapping[str, Any] = {},
    *,
    key: Any = _KEY,
    algorithm: str = "RS256",
    metadata: Mapping[str, Any] = {},
    status: int = 200,
) -> Provider:
    """One whose network is this function: it signs these claims."""
    now = int(time.time())
    word = {
        "iss": _ISSUER, "sub": "7", "aud": "perennial", "iat": now, "exp": now + 60, "nonce": begun.nonce,
        "email": "ann@example.org", "email_verified": True, **(claims or {}),
    }  # fmt: skip
    signed = jwt.encode(
        {"alg": algorithm, "kid": "one"}, {k: v for k, v in word.items() if v is not None}, key, algorithms=[algorithm]
    )

    def answer(request: httpx.Request) -> httpx.Response:
        match request.url.path:
            case "/.well-known/openid-configuration":
                there = {"authorization_endpoint": "/authorize", "token_endpoint": "/token", "jwks_uri": "/keys"}
                told = {"issuer": _ISSUER, **{name: _ISSUER + path for name, path in there.items()}, **(metadata or {})}
                return httpx.Response(200, json=told)
            case "/keys":
                return httpx.Response(200, json=KeySet([_KEY]).as_dict(private=False))
            case _:
                sent = parse_qs(request.content.decode())
                assert sent["code_verifier"] == [begun.verifier]
                assert sent["redirect_uri"] == ["https://models.example/console/sign-in/provider/back"]
                token = {"access_token": "a", "token_type": "Bearer", "id_token": signed}
                return httpx.Response(status, json=token if status == 200 else {"error": "invalid_grant"})

    settings = OidcSettings(issuer=_ISSUER, client_id="perennial", address="https://models.example/")
    return Provider(settings, transport=httpx.MockTransport(answer))


def test_who_comes_back_with_a_right_word_is_named() -> None:
    begun = SignIn.begun("/console")
    seen = provider(begun).person(begun, {"state": begun.state, "code": "c"})
    assert seen == Person(subject=f"{_ISSUER} 7", name="ann@example.org")


def test_the_browser_is_sent_with_a_state_a_nonce_and_a_challenge() -> None:
    begun = SignIn.begun("/console")
    asked = parse_qs(urlsplit(provider(begun).address(begun)).query)
    assert (asked["state"], asked["nonce"]) == ([begun.state], [begun.nonce])
    assert asked["code_challenge_method"] == ["S256"]
    assert begun.verifier not in str(asked)
    assert "openid" in asked["scope"][0].split()


@pytest.mark.parametrize(
    "claims",
    [
        {"iss": "https://evil.example"},
        {"iss": None},
        {"aud": "another"},
        {"aud": ["another"]},
        {"aud": None},
        {"nonce": "another"},
        {"nonce": None},
        {"exp": 1},
        {"exp": None},
        {"iat": 4_102_444_800},
        {"sub": None},
        {"email": None},
        {"email": 7},
        {"email_verified": False},
        {"email_verified": "true"},
        {"email_verified": None},
        {"azp": "another"},
        {"at_hash": "of-another-token"},
    ],
    ids=str,
)
def test_a_word_with_one_thing_wrong_lets_nobody_in(claims: dict[str, Any]) -> None:
    begun = SignIn.begun("/console")
    with pytest.raises(Refused):
        provider(begun, claims).person(begun, {"state": begun.state, "code": "c"})


@pytest.mark.parametrize(
    ("made", "answer", "error"),
    [
        ({"key": _OTHER}, {}, Refused),
        ({"key": OctKey.generate_key(256), "algorithm": "HS256"}, {}, Refused),
        ({"metadata": {"id_token_signing_alg_values_supported": ["HS256", "none"]}}, {}, Refused),
        ({"metadata": {"issuer": "https://evil.example"}}, {}, DependencyUnreachable),
        ({"status": 400}, {}, Refused),
        ({}, {"state": "another"}, Refused),
        ({}, {"code": None, "error": "access_denied"}, Refused),
    ],
    ids=["a key of somebody else", "signed with a shared key", "no safe algorithm", "another issuer", "code refused",
         "another state", "let nobody in"],
)  # fmt: skip
def test_an_answer_that_is_not_the_providers_for_this_browser_lets_nobody_in(
    made: dict[str, Any], answer: dict[str, Any], error: type[PerennialError]
) -> None:
    begun = SignIn.begun("/console")
    sent = {"state": begun.state, "code": "c"} | answer
    with pytest.raises(error):
        provider(begun, **made).person(begun, {name: value for name, value in sent.items() if value is not None})


def test_a_slow_provider_does_not_hold_every_thread_that_answers() -> None:
    begun, deep = SignIn.begun("/console"), 0

    def another_comes(_: httpx.Request) -> httpx.Response:
        nonlocal deep
        deep += 1
        assert deep < 40
        made.address(begun)
        raise AssertionError("somebody more was let in")

    settings = OidcSettings(issuer=_ISSUER, client_id="perennial", address="https://models.example/")
    made = Provider(settings, transport=httpx.MockTransport(another_comes))
    for _ in range(2):  # each gives its place back
        deep = 0
        with pytest.raises(DependencyUnreachable, match="at once already"):
            made.address(begun)
        assert deep > 1


@pytest.mark.parametrize("issuer", ["http://id.example", "http://10.0.0.7:9000/realm", "http://localhost.example"])
def test_a_provider_over_an_open_line_is_refused(issuer: str) -> None:
    with pytest.raises(ValueError, match="use https"):
        OidcSettings(issuer=issuer, client_id="p", address="https://models.example")


@pytest.mark.parametrize("issuer", ["http://localhost:9400", "http://127.0.0.1:9400", "http://[::1]/realm"])
def test_a_provider_on_this_machine_may_speak_plainly(issuer: str) -> None:
    assert OidcSettings(issuer=issuer, client_id="p", address="http://localhost:8080").issuer == issuer
