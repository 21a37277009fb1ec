"""When a server that starts is given up: it lost a process and is at rest."""

from ops.triton.server import _AFTER_LOSS_S, _Progress


def _watch(load: float, *, lost_at: float | None, until: float, step: float = 0.1) -> float | None:
    """When a start is given up whose processes use `load` processors and one of which is lost."""
    progress, steps = _Progress(), round(until / step)
    for number in range(steps):
        now = 1000.0 + number * step
        lost = lost_at is not None and number * step >= lost_at
        progress.look({7} if lost else {7, 8}, load * number * step, now)
        if progress.given_up(now):
            return number * step
    return None


def test_a_start_that_lost_no_process_is_never_given_up():
    assert _watch(0.0, lost_at=None, until=200) is None


def test_a_start_at_rest_after_a_loss_is_given_up_after_so_long():
    given_up = _watch(0.001, lost_at=3.0, until=200)
    assert given_up is not None
    assert abs(given_up - (3.0 + _AFTER_LOSS_S)) < 1.0


def test_a_start_that_works_on_after_a_loss_is_waited_for():
    assert _watch(0.5, lost_at=3.0, until=290) is None
    assert _watch(0.05, lost_at=3.0, until=290) is None


def test_work_that_ends_after_a_loss_is_rest_from_then_on():
    progress = _Progress()
    progress.look({7, 8}, 1.0, 1.0)
    progress.look({7}, 0.5, 2.0)  # the lost one took its time with it
    progress.look({7}, 5.0, 30.0)
    assert not progress.given_up(30.0 + _AFTER_LOSS_S)
    progress.look({7}, 5.01, 40.0)
    assert progress.given_up(30.1 + _AFTER_LOSS_S)
