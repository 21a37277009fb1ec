"""The health of parts, by a clock that the test sets."""

import time

import pytest

from perennial.ops.app.health import Health, job_parts
from perennial.ops.scheduling import JobFacts


def test_a_part_is_unhealthy_while_its_look_fails_and_when_none_ends() -> None:
    now, wrong = [0.0], [""]

    def check() -> str:
        if wrong[0]:
            raise OSError(wrong[0])
        return "all well"

    health = Health(clock=lambda: now[0])
    health.watch("ledger", check, limit_s=30.0)
    health.look("ledger")
    assert (health.parts()["ledger"].healthy, health.parts()["ledger"].note) == (True, "all well")
    wrong[0] = "the disk is gone"
    health.look("ledger")
    assert (health.parts()["ledger"].healthy, health.parts()["ledger"].error) == (False, "OSError: the disk is gone")
    wrong[0] = ""
    health.look("ledger")
    assert health.parts()["ledger"].healthy
    now[0] = 31.0
    ledger = health.parts()["ledger"]
    assert (ledger.healthy, ledger.last_s, ledger.error) == (False, 31.0, "no look ended for 31 s")


def test_a_look_that_hangs_hides_no_other() -> None:
    import threading

    free = threading.Event()
    seen = threading.Event()

    def check() -> str:
        seen.set()
        return ""

    health = Health()
    health.watch("stuck", lambda: str(free.wait(60)), limit_s=0.05)
    health.watch("other", check, limit_s=30.0)
    health.start(every_s=0.01)
    try:
        assert seen.wait(10)
        time.sleep(0.1)
        parts = health.parts()
        assert (parts["stuck"].healthy, parts["other"].healthy) == (False, True)
    finally:
        free.set()
        health.stop()


@pytest.mark.parametrize(
    ("facts", "leading", "healthy"),
    [
        (JobFacts(interval_s=30.0, since=0.0, done=950.0), True, True),
        (JobFacts(interval_s=30.0, since=0.0, done=800.0), True, False),
        (JobFacts(interval_s=30.0, since=0.0), True, False),
        (JobFacts(interval_s=30.0, since=950.0), True, True),
        (JobFacts(interval_s=30.0, since=0.0, done=800.0, paused=True), True, True),
        (JobFacts(interval_s=30.0, since=0.0, done=800.0), False, True),
        (JobFacts(interval_s=600.0, since=0.0), True, True),
        (JobFacts(interval_s=None, since=0.0), True, True),
        (JobFacts(interval_s=30.0), True, True),
    ],
)
def test_a_job_is_unhealthy_when_it_has_not_ended_well_for_three_intervals(
    facts: JobFacts, leading: bool, healthy: bool
) -> None:
    parts = job_parts({"watch": facts}, leading=leading, now=1000.0)
    assert parts["watch"].healthy is healthy
