"""What becomes of jobs when the warm process, an order or a fork of it fails."""

import fcntl
import os
import resource
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from perennial.continual.jobs import process, warm
from perennial.continual.jobs.process import run_job
from perennial.continual.jobs.waiting import WaitingJobs
from perennial.continual.jobs.warm import ForkedJob, WarmJobs

pytestmark = pytest.mark.component

NO_LIBRARY = """
import ctypes
def refuse(*_, **__): raise OSError("no library")
ctypes.CDLL = refuse
"""
ONE_FORK = """
import os
fork, left = os.fork, [1]
def fork_once():
    if not left: raise BlockingIOError(11, "no more processes")
    left.pop()
    return fork()
os.fork = fork_once
"""
FEW_DESCRIPTORS = """
import os, resource
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
taken = []
try:
    while True: taken.append(os.dup(0))
except OSError:
    for spare in taken[:7]: os.close(spare)
"""
BEGUN = b'{"begun": true}\n'
Warm = Callable[..., WarmJobs]


@pytest.fixture
def started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Warm]:
    """Warm jobs whose process has loaded a module with this source."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with ExitStack() as stack:

        def start(source: str = "", loads: bool = True, **own: Any) -> WarmJobs:
            (tmp_path / "loaded_first.py").write_text(source)
            jobs = WarmJobs(["loaded_first"], **own)
            stack.callback(jobs.close)
            jobs.start()
            assert not loads or jobs.wait_loaded(60)
            return jobs

        yield start


def _begin(jobs: WarmJobs, until: Path, *how: str) -> ForkedJob | None:
    with (until.parent / "job.log").open("ab") as errors:
        return jobs.begin(
            "tests.component.cycle.sleeping_job",
            [str(until), *how],
            niceness=0,
            environment=dict(os.environ),
            errors=errors,
        )


def _end_well(job: ForkedJob | None, until: Path) -> None:
    assert job is not None
    until.touch()
    assert (job.stdout.read(), job.wait()) == (BEGUN, 0)
    job.stdout.close()


def test_a_fork_that_dies_before_it_is_the_job_has_the_job_begin_cold(started: Warm, tmp_path: Path) -> None:
    """Its exit code is no process id."""
    assert _begin(started(NO_LIBRARY), tmp_path / "end") is None


@pytest.mark.parametrize(("own", "niceness"), [({}, "19"), ({"niceness": 3}, "3")], ids=["by-default", "as-told"])
def test_the_process_that_loads_gives_way_to_others_and_its_jobs_do_not_unless_told(
    started: Warm, tmp_path: Path, own: dict[str, int], niceness: str
) -> None:
    jobs = started(**own)
    running = _begin(jobs, tmp_path / "end")
    assert running is not None
    if Path("/proc/self/autogroup").exists():  # a kernel that groups processes by session
        of_both = [Path(f"/proc/{pid}/autogroup").read_text().split()[-1:] for pid in (jobs.pid, running.pid)]
        assert of_both in ([[niceness], ["0"]], [[], []])
    _end_well(running, tmp_path / "end")


@pytest.mark.parametrize("source", [ONE_FORK, FEW_DESCRIPTORS], ids=["no-process", "no-descriptor"])
def test_an_order_that_fails_ends_no_other_job(started: Warm, tmp_path: Path, source: str) -> None:
    jobs = started(source)
    first, *others = [_begin(jobs, tmp_path / "end") for _ in range(5)]
    assert others[-1] is None
    assert first is not None
    assert first.stdout.readline() == BEGUN
    (tmp_path / "end").touch()
    for job in (first, *others):
        if job is not None:
            assert job.wait() == 0
            job.stdout.close()


def test_a_process_that_does_not_answer_is_ended_only_where_nothing_runs(
    started: Warm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(warm, "_ANSWERS_S", 1.0)
    jobs = started()
    running = _begin(jobs, tmp_path / "end")
    with _stopped(jobs):
        assert _begin(jobs, tmp_path / "late") is None
    _end_well(running, tmp_path / "end")
    _end_well(_begin(jobs, tmp_path / "next"), tmp_path / "next")
    assert (tmp_path / "job.log").read_text() == ""
    stopped = jobs.pid
    with _stopped(jobs):
        assert _begin(jobs, tmp_path / "late") is None
        _wait_until(lambda: jobs.pid != stopped)


def test_a_job_that_is_done_says_so_itself(started: Warm, tmp_path: Path) -> None:
    """Its memory is taken back, and the warm process sees its end, while its owner goes on already."""
    jobs = started()
    running = _begin(jobs, tmp_path / "end")
    with _stopped(jobs):
        _end_well(running, tmp_path / "end")
    _end_well(_begin(jobs, tmp_path / "next"), tmp_path / "next")


def test_a_job_that_was_ended_with_the_warm_process_counts_as_killed(started: Warm, tmp_path: Path) -> None:
    """So that it is tried again, whatever it makes of being told to end."""
    jobs = started()
    running = _begin(jobs, tmp_path / "never", "orderly")
    assert running is not None
    assert running.stdout.readline() == BEGUN
    assert jobs.pid is not None
    os.kill(jobs.pid, signal.SIGKILL)
    assert running.wait() == -signal.SIGKILL
    running.stdout.close()


def test_a_job_that_is_late_ends_although_the_warm_process_is_stopped(
    started: Warm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(warm, "_END_S", 0.5)
    monkeypatch.setattr(process, "_GRACE_S", 0.5)
    jobs = started()
    with ExitStack() as stack:
        result = run_job(
            "tests.component.cycle.sleeping_job",
            [str(tmp_path / "never")],
            log=tmp_path / "job.log",
            timeout_s=2.0,
            warm=jobs,
            on_progress=lambda _: stack.enter_context(_stopped(jobs)),
        )
    assert (result.timed_out, result.exit_code) == (True, -signal.SIGKILL)


@contextmanager
def _stopped(jobs: WarmJobs) -> Iterator[None]:
    pid = jobs.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    yield
    try:
        os.kill(pid, signal.SIGCONT)
    except ProcessLookupError:
        assert jobs.pid != pid


def _wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_process_that_dies_again_and_again_is_left_alone(
    started: Warm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(warm, "_RESTS_S", (0.0, 0.0, 0.0, 3_600.0))
    runs = tmp_path / "runs"
    jobs = started(f"import os\nopen({str(runs)!r}, 'a').write('+')\nos._exit(3)", loads=False)
    _wait_until(lambda: runs.exists() and len(runs.read_text()) >= 3)
    time.sleep(1.0)
    assert (runs.read_text(), jobs.pid, _begin(jobs, tmp_path / "end")) == ("+++", None, None)


def test_a_process_that_cannot_be_started_is_tried_again(
    started: Warm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(warm, "_RESTS_S", (0.1,))
    with _descriptors_left(1):
        jobs = started(loads=False)
        time.sleep(0.5)
    assert jobs.wait_loaded(60)
    _end_well(_begin(jobs, tmp_path / "end"), tmp_path / "end")


@contextmanager
def _descriptors_left(count: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken = [os.open(os.devnull, os.O_RDONLY)]
    limit = max(_open()) + 1
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    try:
        while True:
            taken.append(os.dup(taken[0]))
    except OSError:
        pass
    spare, limit = taken[0], limit + count
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for held in {*taken, spare}:
            os.close(held)


def _open() -> set[int]:
    return {int(path.name) for path in Path("/proc/self/fd").iterdir()}


def test_where_descriptors_run_out_none_is_lost(started: Warm, tmp_path: Path) -> None:
    jobs = started()
    before = _open()
    for count in range(1, 6):
        with _descriptors_left(count):  # the first is the log
            assert _begin(jobs, tmp_path / "end") is None
        assert len(_open()) == len(before)
    _end_well(_begin(jobs, tmp_path / "end"), tmp_path / "end")


def test_jobs_begin_warm_beside_a_thousand_descriptors(started: Warm, tmp_path: Path) -> None:
    jobs = started()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4_096), hard))
    with ExitStack() as stack, Path(os.devnull).open("rb") as nothing:
        stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        while (held := fcntl.fcntl(nothing, fcntl.F_DUPFD_CLOEXEC, 0)) < 1_030:
            stack.callback(os.close, held)
        stack.callback(os.close, held)
        _end_well(_begin(jobs, tmp_path / "end"), tmp_path / "end")


def test_another_release_has_jobs_begin_cold_until_a_new_process_has_loaded_it(started: Warm, tmp_path: Path) -> None:
    marker = tmp_path / "release"
    marker.touch()
    jobs = started(installed=[marker])
    first, running = jobs.pid, _begin(jobs, tmp_path / "end")
    os.utime(marker, ns=(1, 1))
    assert _begin(jobs, tmp_path / "cold") is None
    time.sleep(0.5)
    assert jobs.pid == first  # it has a job
    _end_well(running, tmp_path / "end")
    _wait_until(lambda: jobs.pid not in (first, None))
    assert jobs.wait_loaded(60)
    _end_well(_begin(jobs, tmp_path / "next"), tmp_path / "next")


def _waiting(jobs: WarmJobs, folder: Path) -> WaitingJobs:
    return WaitingJobs(jobs, "tests.component.cycle.told_job", log=folder / "waiting.log", niceness=0)


def _gone(pid: int | None) -> bool:
    return not Path(f"/proc/{pid}").exists()


def test_a_waiting_job_is_told_once_and_another_one_takes_its_place(started: Warm, tmp_path: Path) -> None:
    waiting, said, log = _waiting(started(), tmp_path), list[dict[str, object]](), tmp_path / "job.log"
    assert waiting.take(["nothing waits"], log) is None
    waiting.keep(["one"])
    first = waiting.pid
    waiting.keep(["one"])
    assert waiting.pid == first is not None
    waiting.keep(["another"])
    _wait_until(lambda: _gone(first))
    second = waiting.pid
    result = run_job("tests.none", ["spec"], log=log, timeout_s=60, on_progress=said.append, waiting=waiting)
    assert (result.exit_code, said) == (0, [{"arguments": ["spec"], "log": str(log)}])
    assert waiting.pid is None
    _wait_until(lambda: _gone(second))
    waiting.keep(["another"])
    third = waiting.pid
    waiting.drop()
    _wait_until(lambda: _gone(third))


def test_a_waiting_job_that_dies_is_begun_again_but_not_for_ever(
    started: Warm, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    waiting, seen = _waiting(started(), tmp_path), list[int]()
    for _ in range(3):
        waiting.keep(["one"])
        assert waiting.pid is not None
        seen.append(waiting.pid)
        os.kill(seen[-1], signal.SIGKILL)
        _wait_until(lambda: waiting.pid is None)
    assert waiting.take(["it is dead"], tmp_path / "job.log") is None
    for _ in range(3):
        waiting.keep(["two"])
        if waiting.pid is not None:
            seen.append(waiting.pid)
            os.kill(seen[-1], signal.SIGKILL)
            _wait_until(lambda: waiting.pid is None)
    for _ in range(3):
        waiting.keep(["two"])
    assert (waiting.pid, len(set(seen))) == (None, 6)
    assert caplog.messages.count("job.waiting_failed") == 5, "each failure is told once"
    waiting.keep(["three"])
    assert waiting.pid is not None
    waiting.drop()


def test_a_waiting_job_keeps_no_earlier_release(started: Warm, tmp_path: Path) -> None:
    marker = tmp_path / "release"
    marker.touch()
    jobs = started(installed=[marker])
    waiting, first = _waiting(jobs, tmp_path), jobs.pid
    waiting.keep(["one"])
    old = waiting.pid
    assert old is not None
    os.utime(marker, ns=(1, 1))
    assert _begin(jobs, tmp_path / "cold") is None
    _wait_until(lambda: _gone(old) and jobs.pid not in (first, None))
    assert jobs.wait_loaded(60)
    waiting.keep(["one"])
    assert waiting.pid not in (old, None)
    waiting.drop()
