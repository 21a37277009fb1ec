import subprocess
import sys
import threading
import time

import pytest

from perennial.continual.errors import DataError, DependencyUnreachable, Refused
from perennial.ops.serving.router.version_guard import VersionGuard, _Call


def _guarded_threads() -> int:
    return sum(thread.name == "guarded-call" for thread in threading.enumerate())


def _fail() -> int:
    raise DataError("no such label")


def _leave() -> int:
    raise Refused("the caller went away")


def test_results_and_errors_come_through():
    guard = VersionGuard(limit_s=10.0, pause_s=0.0, hang_pause_s=0.0)
    assert guard.ask(1, lambda: "yes") == "yes"
    with pytest.raises(DataError, match="no such label"):
        guard.ask(1, _fail)
    with pytest.raises(DependencyUnreachable, match=r"engine failed: .*by zero"):
        guard.ask(1, lambda: 1 // 0)


def test_one_caller_needs_one_thread():
    guard, before = VersionGuard(limit_s=10.0, pause_s=0.0, hang_pause_s=0.0), _guarded_threads()
    idents = set()
    for _ in range(200):
        idents.add(guard.ask(1, threading.get_ident))
        time.sleep(0.0005)  # its thread is free again
    assert threading.get_ident() not in idents
    assert _guarded_threads() - before <= 2


def test_a_version_that_failed_is_left_alone_for_the_pause():
    now = [100.0]
    guard = VersionGuard(limit_s=10.0, pause_s=5.0, hang_pause_s=0.0, clock=lambda: now[0])
    with pytest.raises(DataError):
        guard.ask(1, _fail)
    with pytest.raises(DependencyUnreachable, match="version 1 failed or hung a moment ago"):
        guard.ask(1, lambda: 1)
    assert guard.ask(2, lambda: 2) == 2
    now[0] += 5.0
    assert guard.ask(1, lambda: 1) == 1


def test_a_caller_who_went_away_has_nobody_wait_for_the_version():
    guard = VersionGuard(limit_s=10.0, pause_s=5.0, hang_pause_s=5.0, clock=lambda: 100.0)
    with pytest.raises(Refused, match="the caller went away"):
        guard.ask(1, _leave)
    assert guard.ask(1, lambda: 1) == 1


def test_a_version_that_hangs_is_left_alone_until_its_call_has_ended():
    guard, go_on = VersionGuard(limit_s=0.05, pause_s=0.0, hang_pause_s=0.0), threading.Event()
    with pytest.raises(DependencyUnreachable, match=r"version 1 did not answer within 0\.05 s"):
        guard.ask(1, lambda: go_on.wait(30))
    for _ in range(3):
        with pytest.raises(DependencyUnreachable, match="is not asked"):
            guard.ask(1, lambda: True)
    assert guard.ask(2, lambda: 2) == 2
    go_on.set()
    _until_asked(guard)


def test_a_version_that_hung_is_left_alone_for_its_pause_after_the_calls_end():
    now, go_on = [100.0], threading.Event()
    guard = VersionGuard(limit_s=0.05, pause_s=0.0, hang_pause_s=30.0, clock=lambda: now[0])
    with pytest.raises(DependencyUnreachable, match="did not answer"):
        guard.ask(1, lambda: go_on.wait(30))
    now[0] += 100.0
    go_on.set()
    while guard._hanging[1]:
        time.sleep(0.001)
    with pytest.raises(DependencyUnreachable, match="is not asked"):
        guard.ask(1, lambda: 1)
    now[0] += 30.0
    assert guard.ask(1, lambda: 1) == 1


def test_a_call_that_ends_just_at_the_limit_closes_a_version_for_good_never():
    guard = VersionGuard(limit_s=0.002, pause_s=0.0, hang_pause_s=0.0)
    outcomes = set()
    for _ in range(400):
        try:
            outcomes.add(guard.ask(1, lambda: time.sleep(0.00195)))
        except DependencyUnreachable as exc:
            outcomes.add("late" if "did not answer" in str(exc) else "closed")
            time.sleep(0.001)
    assert "late" in outcomes, "the limit was met"
    _until_asked(guard)


def test_a_call_is_given_up_before_its_end_or_not_at_all():
    called: list[str] = []
    call = _Call(lambda: 1)
    assert call.give_up(lambda: called.append("ended"))
    call.work()
    assert called == ["ended"]
    assert not call.give_up(lambda: called.append("again"))
    assert (called, call.result) == (["ended"], [1])


def _until_asked(guard: VersionGuard) -> None:
    end = time.monotonic() + 10
    while True:
        try:
            assert guard.ask(1, lambda: "again") == "again"
        except DependencyUnreachable:
            assert time.monotonic() < end
            time.sleep(0.001)
        else:
            return


def test_a_call_that_ends_between_the_limit_and_the_giving_up_counts_as_answered(monkeypatch):
    guard, give_up = VersionGuard(limit_s=0.01, pause_s=0.0, hang_pause_s=1000.0), _Call.give_up

    def ends_just_before(call, when_ended):
        assert call.ended.wait(30)
        return give_up(call, when_ended)

    monkeypatch.setattr(_Call, "give_up", ends_just_before)
    assert [guard.ask(1, lambda: time.sleep(0.05) or "yes") for _ in range(2)] == ["yes", "yes"]


def test_two_calls_that_hang_keep_a_version_closed_until_both_have_ended():
    guard = VersionGuard(limit_s=0.05, pause_s=0.0, hang_pause_s=0.0)
    go_on, began, messages = [threading.Event(), threading.Event()], threading.Barrier(3), []

    def hang(go: threading.Event) -> bool:
        began.wait(30)
        return go.wait(30)

    def ask(go: threading.Event) -> None:
        try:
            guard.ask(1, lambda: hang(go))
        except DependencyUnreachable as exc:
            messages.append(str(exc))

    callers = [threading.Thread(target=ask, args=(go,)) for go in go_on]
    for caller in callers:
        caller.start()
    began.wait(30)
    for caller in callers:
        caller.join(30)
    assert messages == ["version 1 did not answer within 0.05 s"] * 2
    assert guard._hanging[1] == 2
    go_on[0].set()
    while guard._hanging[1] == 2:
        time.sleep(0.001)
    with pytest.raises(DependencyUnreachable, match="is not asked"):
        guard.ask(1, lambda: True)
    go_on[1].set()
    _until_asked(guard)


def test_a_process_that_stops_waits_for_no_call_that_hangs():
    code = (
        "import threading\n"
        "from perennial.continual.errors import DependencyUnreachable\n"
        "from perennial.ops.serving.router.version_guard import VersionGuard\n"
        "guard = VersionGuard(limit_s=0.05, pause_s=1.0, hang_pause_s=1.0)\n"
        "try:\n"
        "    guard.ask(1, threading.Event().wait)\n"
        "except DependencyUnreachable:\n"
        "    print('given up')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "given up\n"
