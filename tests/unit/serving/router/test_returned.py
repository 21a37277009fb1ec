"""What a call returns to Triton, and what is sent."""

from concurrent.futures import ThreadPoolExecutor

from perennial.ops.serving.router.returned import Returned


def test_what_another_thread_answers_is_not_returned():
    returned, mine, other = Returned(), object(), object()
    assert returned.takes(mine, "mine")
    with ThreadPoolExecutor(1) as pool:
        assert not pool.submit(returned.takes, other, "other").result()
    assert returned.responses([other, mine]) == [None, "mine"]


def test_nothing_is_returned_where_everything_is_sent():
    assert Returned().responses([object()]) is None
