"""Personal data that the package Presidio finds in a text, beside what `personal` finds by its own rules."""

import json
import os
import re
from collections.abc import Callable, Mapping
from functools import cache
from importlib import import_module
from typing import Any

from perennial.continual.errors import ConfigurationError, DependencyUnreachable

__all__ = ["VARIABLE", "asked_for", "with_presidio"]

VARIABLE = "PERENNIAL_PRESIDIO"  # language -> model of spaCy, as JSON; child processes inherit it

_KEPT = frozenset({"DATE_TIME", "URL", "NRP", "ORGANIZATION"})  # which tell of no single person, or not alone
_PLACEHOLDERS = {
    "PERSON": "[person]",
    "LOCATION": "[location]",
    "EMAIL_ADDRESS": "[email]",
    "PHONE_NUMBER": "[phone]",
    "CREDIT_CARD": "[card]",
    "IBAN_CODE": "[iban]",
}
_OTHER = "[number]"
_LEAST_SCORE = 0.5
_PLACEHOLDER = re.compile(r"\[[a-z]+\]")
_INSTALL = "pip install 'perennial-serving[personal]'"


def asked_for() -> Callable[[str], str] | None:
    """What takes further personal data out of a text; None where nothing was asked for.

    Raises:
        DependencyUnreachable: Presidio, or a model that it was told, is not installed.
    """
    configured = os.environ.get(VARIABLE, "")
    return _made(configured) if configured else None


def with_presidio(models: Mapping[str, str]) -> None:
    """Have it look at texts from now on, in this process and those that it starts; nothing where there are none.

    Args:
        models: language -> a model of spaCy, which tells names; an empty one leaves patterns alone.
    """
    if models:
        os.environ[VARIABLE] = json.dumps(dict(models))
    else:
        os.environ.pop(VARIABLE, None)


@cache
def _made(configured: str) -> Callable[[str], str]:
    try:
        models: dict[str, str] = json.loads(configured)
        languages = sorted(models)
    except (ValueError, TypeError) as error:
        raise ConfigurationError(f'{VARIABLE} is {configured!r}; give JSON such as {{"en": ""}}') from error
    analyser = _analyser(models)

    def without_personal_data(text: str) -> str:
        found = [
            (each.start, each.end, _PLACEHOLDERS.get(each.entity_type, _OTHER))
            for language in languages
            for each in analyser.analyze(text, language=language, score_threshold=_LEAST_SCORE)
            if each.entity_type not in _KEPT
        ]
        taken = [match.span() for match in _PLACEHOLDER.finditer(text)]
        kept, end = list[str](), 0
        for start, stop, placeholder in sorted(found, key=lambda each: (each[0], -each[1])):
            if stop <= end or any(start < last and first < stop for first, last in taken):
                continue  # it lies in another one, or was replaced already
            kept += [text[end : max(start, end)], placeholder]
            end = stop
        return "".join([*kept, text[end:]])

    return without_personal_data


def _analyser(models: Mapping[str, str]) -> Any:
    """Presidio's, with a pipeline for each language: a blank one finds words, and no names."""
    try:
        spacy: Any = import_module("spacy")
        presidio: Any = import_module("presidio_analyzer")
        engine: Any = import_module("presidio_analyzer.nlp_engine").SpacyNlpEngine()
        domains: Any = import_module("tldextract.tldextract").TLD_EXTRACTOR
    except ImportError as error:
        raise DependencyUnreachable(f"personal.presidio needs Presidio; {_INSTALL}") from error
    domains.suffix_list_urls = ()  # a list of domains is in its package; it would download a newer one
    try:  # loaded here: Presidio would download what is missing
        engine.nlp = {name: spacy.load(model) if model else spacy.blank(name) for name, model in models.items()}
    except (OSError, ImportError, ValueError) as error:
        raise DependencyUnreachable(
            f"personal.presidio names a language or a model of spaCy that is not installed ({error}); install it, or "
            'leave patterns alone by an empty name, e.g. presidio = {en = ""}'
        ) from error
    registry = presidio.RecognizerRegistry(supported_languages=list(models))
    registry.load_predefined_recognizers(languages=list(models), nlp_engine=engine)
    return presidio.AnalyzerEngine(registry=registry, nlp_engine=engine, supported_languages=list(models))
