"""What routers drop counts while they drop it, whichever process a probe meets."""

from perennial.ops.serving.router.progress import Progress
from perennial.ops.serving.router_losses import Losses, RouterLosses

URL = "127.0.0.1:8001"


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def _progress(process: int, *, lost: int = 0, waiting: int = 0) -> Progress:
    return Progress(process=process, rows_lost=lost, rows_waiting=waiting)


def test_rows_count_as_being_dropped_for_a_minute_after_they_were() -> None:
    clock = Clock()
    losses = RouterLosses(clock)
    losses.saw("intent", URL, _progress(1, lost=500))
    assert losses.of("intent") == Losses(waiting=0, dropped_lately=0, dropped=500), "that may be long ago"
    clock.now = 10.0
    losses.saw("intent", URL, _progress(1, lost=530, waiting=7))
    clock.now = 40.0
    losses.saw("intent", URL, _progress(1, lost=531, waiting=7))
    assert losses.of("intent") == Losses(waiting=7, dropped_lately=31, dropped=531)
    clock.now = 71.0
    assert losses.of("intent") == Losses(waiting=7, dropped_lately=1, dropped=531)
    clock.now = 101.0
    losses.saw("intent", URL, _progress(1, lost=531))
    assert losses.of("intent") == Losses(waiting=0, dropped_lately=0, dropped=531)


def test_each_process_of_each_server_counts_by_itself_and_one_that_is_gone_no_more() -> None:
    clock = Clock()
    losses = RouterLosses(clock)
    for url, process, waiting in ((URL, 1, 3), (URL, 2, 4), ("other:8001", 1, 5)):
        losses.saw("intent", url, _progress(process, waiting=waiting))
        losses.saw("intent", url, _progress(process, lost=1, waiting=waiting))
    losses.saw("another", URL, _progress(1, waiting=100))
    assert losses.of("intent") == Losses(waiting=12, dropped_lately=3, dropped=3)
    clock.now = 500.0
    losses.saw("intent", URL, _progress(2, lost=1, waiting=4))
    clock.now = 601.0
    losses.saw("intent", URL, _progress(2, lost=1, waiting=4))
    assert losses.of("intent") == Losses(waiting=4, dropped_lately=0, dropped=1)
    assert losses.of("nobody") == Losses(waiting=0, dropped_lately=0, dropped=0)
