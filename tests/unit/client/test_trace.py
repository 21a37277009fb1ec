"""What is passed on of a caller's trace context, by the rules of the W3C."""

import pytest

from perennial.client import trace_context
from perennial.client.trace import trace_headers

_IDS = "0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331"
_PARENT = f"00-{_IDS}-01"


def passed_on(parent: str, state: str = "") -> dict[str, str]:
    with trace_context({"TraceParent": parent, "TraceState": state}):
        return trace_headers()


@pytest.mark.parametrize("given", [_PARENT, f"00-{_IDS}-00", f"00-{_IDS}-ff", f" {_PARENT}\t"])
def test_a_span_goes_on_as_it_came(given: str) -> None:
    assert passed_on(given) == {"traceparent": given.strip()}
    assert trace_headers() == {}


@pytest.mark.parametrize("given", [f"cc-{_IDS}-01", f"01-{_IDS}-fd", f"fe-{_IDS}-01-what-the-future-will-be"])
def test_one_of_a_later_version_goes_on_in_the_known_one(given: str) -> None:
    assert passed_on(given, "one=1") == {"traceparent": _PARENT, "tracestate": "one=1"}


@pytest.mark.parametrize(
    "given",
    [
        "",
        "00",
        _PARENT[:-1],
        f"{_PARENT}-",
        f"{_PARENT}-more",
        f"{_PARENT}0",
        f"ff-{_IDS}-01",
        f"cc-{_IDS}-01.later",
        _PARENT.upper(),
        f"00-{'0' * 32}-b7ad6b7169203331-01",
        f"00-0af7651916cd43dd8448eb211c80319c-{'0' * 16}-01",
        f"0x-{_IDS}-01",
        f"{_PARENT},{_PARENT}",
        f"{_PARENT}\nx: y",
        "00-" + "a" * 100_000,
    ],
)
def test_what_is_no_span_is_not_passed_on_and_its_state_neither(given: str) -> None:
    assert passed_on(given, "one=1") == {}


@pytest.mark.parametrize(
    ("given", "state"),
    [
        ("one=1", "one=1"),
        (" one=1 ,\ttwo@vendor=a b ,,", "one=1,two@vendor=a b"),
        (",".join(f"k{n}=1" for n in range(32)), ",".join(f"k{n}=1" for n in range(32))),
        (f"{'k' * 256}={'v' * 255}", f"{'k' * 256}={'v' * 255}"),  # 512 characters
    ],
)
def test_a_state_goes_on_in_order(given: str, state: str) -> None:
    assert passed_on(_PARENT, given)["tracestate"] == state


@pytest.mark.parametrize(
    "given",
    [
        "",
        ",,",
        "one",
        "=1",
        "one=",
        "One=1",
        "one=1=2",
        "one=ü",
        "one=1\nx: y",
        "one=1,one=2",
        ",".join(f"k{n}=1" for n in range(33)),
        f"{'k' * 257}=1",
        f"one={'v' * 257}",
    ],
)
def test_a_state_that_breaks_a_rule_is_dropped_and_the_span_goes_on(given: str) -> None:
    assert passed_on(_PARENT, given) == {"traceparent": _PARENT}


def test_a_state_that_is_too_long_loses_large_entries_first_and_then_its_last() -> None:
    small = [f"k{n:02}={'v' * 46}" for n in range(12)]  # each has 50 characters
    large = f"large={'v' * 200}"
    assert passed_on(_PARENT, ",".join([large, *small]))["tracestate"] == ",".join(small[:10])
    assert passed_on(_PARENT, ",".join([large, *small[:5]]))["tracestate"] == ",".join([large, *small[:5]])
