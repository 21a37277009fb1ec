"""Presidio beside the own rules: what it finds by patterns alone, and how it is asked for."""

from collections.abc import Iterator
from importlib import import_module
from types import SimpleNamespace

import pytest

from perennial.continual.errors import ConfigurationError, DependencyUnreachable
from perennial.continual.preparation import deidentify, presidio
from perennial.continual.preparation.presidio import VARIABLE, with_presidio
from perennial.ops.settings.personal import PersonalSettings

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def asked(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv(VARIABLE, "")
    with_presidio({"en": "", "es": ""})
    yield
    with_presidio({})


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("write to jo@example.com or call +44 20 7946 0958", "write to [email] or call [phone]"),
        ("my server is 10.1.2.3 at home", "my server is [number] at home"),
        ("mi NIF es 12345678Z gracias", "mi NIF es [number]Z gracias"),
        ("a fee of 1,200.50 on 2026-01-31 is too much", "a fee of 1,200.50 on 2026-01-31 is too much"),
        ("see https://bank.example/help", "see https://bank.example/help"),
        ("John Smith lost his card", "John Smith lost his card"),  # a name needs a model of spaCy
    ],
)
def test_patterns_find_more_than_own_rules_and_no_names(raw: str, expected: str) -> None:
    assert deidentify(raw) == expected
    assert deidentify(deidentify(raw)) == expected


def test_of_two_that_overlap_nothing_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [
        SimpleNamespace(start=start, end=end, entity_type=kind)
        for start, end, kind in ((3, 12, "LOCATION"), (0, 5, "PERSON"), (1, 4, "US_SSN"))
    ]
    monkeypatch.setattr(presidio, "_analyser", lambda _: SimpleNamespace(analyze=lambda *_, **__: found))
    with_presidio({"of-this-test": ""})
    assert deidentify("Jo of London asks") == "[person][location] asks"


def test_no_list_of_domains_is_downloaded() -> None:
    deidentify("write to a#@example.com")
    assert import_module("tldextract.tldextract").TLD_EXTRACTOR.suffix_list_urls == ()


def test_what_nobody_asks_for_is_not_looked_for() -> None:
    with_presidio({})
    assert deidentify("my server is 10.1.2.3 at home") == "my server is 10.1.2.3 at home"


def test_a_model_that_is_not_installed_is_named_before_a_text_is_kept() -> None:
    with_presidio({"en": "no_such_model"})
    with pytest.raises(DependencyUnreachable, match="no_such_model"):
        deidentify("my card")


def test_a_variable_that_is_no_list_of_languages_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "en")
    with pytest.raises(ConfigurationError, match="give JSON such as"):
        deidentify("my card")


def test_settings_refuse_what_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert PersonalSettings(presidio={"en": ""}).presidio == {"en": ""}
    with pytest.raises(ValueError, match="no model of spaCy is installed as no_such_model; install it, or"):
        PersonalSettings(presidio={"en": "no_such_model", "es": ""})
    monkeypatch.setattr("perennial.ops.settings.personal.find_spec", lambda _: None)
    with pytest.raises(ValueError, match=r"pip install 'perennial-serving\[personal\]'"):
        PersonalSettings(presidio={"en": ""})
