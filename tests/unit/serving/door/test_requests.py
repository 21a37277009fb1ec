"""What the front door reads in a request's headers."""

import pytest

from perennial.ops.serving.door.requests import Request, caller_span

_SPAN = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331"


@pytest.mark.parametrize("flags", [b"01", b"03", b"ff"])
def test_a_span_that_its_caller_traces_is_passed_on(flags):
    given = _SPAN + b"-" + flags
    assert caller_span(Request(headers={b"traceparent": given})) == given


@pytest.mark.parametrize("given", [_SPAN + b"-00", _SPAN + b"-02", _SPAN, b"01" + _SPAN[2:] + b"-01", b""])
def test_one_that_nobody_traces_needs_no_turn_of_its_own(given):
    assert caller_span(Request(headers={b"traceparent": given})) is None


def test_most_requests_name_none():
    assert caller_span(Request()) is None
