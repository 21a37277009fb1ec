"""Who uses the ledger says what of it: parts with few calls, and the whole of it only where nearly all is needed."""

import re
from pathlib import Path

import pytest

from perennial.ops.ledger import Ledger, ports

OPS = Path(__file__).parents[3] / "ops"
_WHOLE = re.compile(r"^from perennial\.ops\.ledger import [^\n]*\bLedger\b", re.MULTILINE)


@pytest.mark.parametrize(
    ("room", "whole"),
    [
        ("comparing", set()),
        ("cycle", {"runner.py", "steps.py"}),
        ("notify", {"notifier.py"}),
        ("store", set()),
        ("watching", set()),
    ],
)
def test_a_room_names_what_it_needs_of_the_ledger(room: str, whole: set[str]) -> None:
    assert {path.name for path in (OPS / room).rglob("*.py") if _WHOLE.search(path.read_text())} == whole


@pytest.mark.parametrize("name", ports.__all__)
def test_the_ledger_has_every_call_of_a_part(name: str) -> None:
    calls = {call for call in vars(getattr(ports, name)) if not call.startswith("_")}
    calls |= {call for base in getattr(ports, name).__mro__[1:] for call in vars(base) if not call.startswith("_")}
    assert 1 <= len(calls) <= 6
    assert calls <= set(dir(Ledger))
