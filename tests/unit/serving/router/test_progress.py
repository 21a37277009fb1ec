"""When a router that says how it gets on has stalled."""

import pytest

from perennial.continual.errors import DataError
from perennial.ops.serving.router.progress import Progress


@pytest.mark.parametrize(
    ("stalled_s", "engine_still_s", "stalled"),
    [
        (0.0, 0.0, False),
        (0.0, 1_000.0, False),  # nobody waits
        (30.0, 31.0, False),
        (31.0, 30.0, False),  # others' batches come out
        (31.0, 31.0, True),
        (120.0, 0.0, False),
        (121.0, 0.0, True),  # it hangs itself
    ],
)
def test_a_router_has_stalled_when_nothing_comes_out_of_it_or_its_engine(stalled_s, engine_still_s, stalled):
    progress = Progress.read(Progress(process=7, stalled_s=stalled_s).to_json())
    assert progress.is_stalled(engine_still_s=engine_still_s, limit_s=30.0) == stalled


@pytest.mark.parametrize("text", ["", "7", "[]", "{}", '{"process": 7, "unknown": 1}', "0199abcd"])
def test_what_is_no_progress_is_refused(text):
    with pytest.raises(DataError, match="cannot be read"):
        Progress.read(text)
