"""What the front door reads in a request's headers."""

import pytest

from perennial.ops.serving.door.requests import Request, caller_span

_SPAN = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331"


@pytest.mark.parametrize("end", [b"-01", b"-03", b"-ff"])
@pytest.mark.parametrize("version", [b"00", b"01", b"fe"])
def test_a_span_that_its_caller_traces_is_passed_on(version, end):
    given = version + _SPAN[2:] + end
    assert caller_span(Request(headers={b"traceparent": given})) == _SPAN + b"-01"


def test_a_later_version_may_say_more():
    later = b"cc" + _SPAN[2:] + b"-01"
    assert caller_span(Request(headers={b"traceparent": later + b"-more"})) == _SPAN + b"-01"
    assert caller_span(Request(headers={b"traceparent": later + b".more"})) is None


@pytest.mark.parametrize(
    "given",
    [
        b"",
        _SPAN,
        _SPAN + b"-00",
        _SPAN + b"-02",
        _SPAN + b"-01-more",
        _SPAN + b"-011",
        _SPAN.upper() + b"-01",
        b"ff" + _SPAN[2:] + b"-01",
        b"00-" + b"0" * 32 + b"-b7ad6b7169203331-01",
        b"00-0af7651916cd43dd8448eb211c80319c-" + b"0" * 16 + b"-01",
        b"00-" + b"a" * 7_000,
    ],
)
def test_one_that_nobody_traces_or_that_breaks_the_rules_needs_no_turn_of_its_own(given):
    assert caller_span(Request(headers={b"traceparent": given})) is None


def test_most_requests_name_none():
    assert caller_span(Request()) is None
