"""When a server that starts is given up: it lacks a process and is at rest."""

from perennial.ops.serving.server.server import _AFTER_LOSS_S, _Progress


def _watch(load: float, *, lost_at: float | None, until: float, step: float = 0.25) -> float | None:
    """When a start is given up whose processes use `load` processors and one of which is lost."""
    progress, steps = _Progress(), round(until / step)
    for number in range(steps):
        now = 1000.0 + number * step
        lacks = lost_at is not None and number * step >= lost_at
        progress.look(lacks=lacks, used_s=load * number * step, now=now)
        if progress.given_up(now):
            return number * step
    return None


def test_a_start_that_lacks_no_process_is_never_given_up():
    assert _watch(0.0, lost_at=None, until=200) is None


def test_a_start_at_rest_after_a_loss_is_given_up_after_so_long():
    for lost_at in (0.0, 3.0):
        given_up = _watch(0.001, lost_at=lost_at, until=200)
        assert given_up is not None
        assert abs(given_up - (lost_at + _AFTER_LOSS_S)) < 1.0


def test_a_start_that_works_on_after_a_loss_is_waited_for():
    assert _watch(0.5, lost_at=3.0, until=290) is None
    assert _watch(0.05, lost_at=3.0, until=290) is None


def test_work_that_ends_after_a_loss_is_rest_from_then_on():
    progress = _Progress()
    progress.look(lacks=False, used_s=1.0, now=1.0)
    progress.look(lacks=True, used_s=0.5, now=2.0)  # the lost one took its time with it
    progress.look(lacks=True, used_s=5.0, now=6.0)
    assert not progress.given_up(6.0 + _AFTER_LOSS_S)
    progress.look(lacks=True, used_s=5.01, now=10.0)
    assert progress.given_up(6.1 + _AFTER_LOSS_S)


def test_a_process_that_is_made_a_moment_later_is_no_loss():
    progress = _Progress()
    progress.look(lacks=True, used_s=0.0, now=1.0)
    progress.look(lacks=False, used_s=0.0, now=1.25)
    assert not progress.given_up(1.2 + _AFTER_LOSS_S)
