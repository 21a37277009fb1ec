"""What an alert says: a template that cites its evidence. Nothing is foretold, prices least of all."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

__all__ = ["evidence_lines", "hint"]

_LONGEST = 160


def hint(rule: str, subject: str, risk: float | None, facts: Mapping[str, Any], headlines: int) -> str:
    """Why there is an alert, in one sentence.

    >>> hint("risk", "e7", 0.84, {"words": ["treaty"], "sources_named": ["a", "b"], "bad_news": 0.6}, 3)
    '3 headlines of 2 sources tell of treaty; the tone is 0.6 worse than usual (risk 0.84)'
    >>> hint("bad for ACME", "ACME", None, {"sentiment": "negative"}, 4)
    '4 headlines are negative for ACME (rule bad for ACME)'
    """
    if risk is None:
        about = f" for {subject}" if subject else ""
        return f"{headlines} headlines are {facts.get('sentiment', 'of one sentiment')}{about} (rule {rule})"
    words = ", ".join(facts.get("words", ())) or "the same"
    tone = f"; the tone is {facts['bad_news']:.1f} worse than usual" if facts.get("bad_news", 0) >= 0.1 else ""
    sources = len(facts.get("sources_named", ()))
    return f"{headlines} headlines of {sources} sources tell of {words}{tone} (risk {risk:.2f})"


def evidence_lines(evidence: Sequence[tuple[datetime | None, str, str]]) -> list[str]:
    """Each headline with its time and source; one that was erased says so.

    >>> evidence_lines([(None, "", "")])
    ['(erased or too old)']
    """
    return [
        f"{at:%Y-%m-%d %H:%M} {source or 'unknown source'}: {text[:_LONGEST]}" if at else "(erased or too old)"
        for at, source, text in evidence
    ]
