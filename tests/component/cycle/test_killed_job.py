"""What becomes of a job that something kills."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from perennial.continual.errors import ExportFailed, TrainingFailed
from perennial.continual.jobs.errors import JobErrors
from perennial.continual.jobs.process import JobResult, run_job
from perennial.continual.jobs.warm import WarmJobs
from perennial.ops.making.rows import TrainingRows
from perennial.ops.making.version_maker import VersionMaker
from tests.component.town import Town

pytestmark = [pytest.mark.component, pytest.mark.paired]


@pytest.fixture(scope="module", params=["cold", "warm"])
def warm(request: pytest.FixtureRequest) -> Iterator[WarmJobs | None]:
    """Jobs that are started as programs, and jobs that are forks."""
    if request.param == "cold":
        yield None
        return
    jobs = WarmJobs(["numpy", "no_such_module"])
    jobs.start()
    assert jobs.wait_loaded(60)
    yield jobs
    jobs.close()


def _run(folder: Path, times: int, retries: int, warm: WarmJobs | None) -> tuple[JobResult, int]:
    noted = folder / "runs"
    result = run_job(
        "tests.component.cycle.dying_job",
        [str(noted), str(times)],
        log=folder / "job.log",
        timeout_s=30,
        niceness=0,
        cancel=threading.Event(),
        killed_retries=retries,
        warm=warm,
    )
    return result, len(noted.read_text().splitlines()) if noted.exists() else 0


@pytest.mark.parametrize(
    ("times", "retries", "code", "runs"), [(0, 2, 0, 1), (2, 2, 0, 3), (3, 2, -9, 3), (1, 0, -9, 1)]
)
def test_a_killed_job_is_begun_again_so_often(
    tmp_path: Path, warm: WarmJobs | None, times: int, retries: int, code: int, runs: int
) -> None:
    result, seen = _run(tmp_path, times, retries, warm)
    assert (result.exit_code, seen) == (code, runs)


def test_a_job_that_was_told_to_end_is_not_begun_again(tmp_path: Path, warm: WarmJobs | None) -> None:
    cancel = threading.Event()
    threading.Timer(1.0, cancel.set).start()
    result = run_job(
        "http.server",
        ["0"],
        log=tmp_path / "job.log",
        timeout_s=30,
        niceness=0,
        cancel=cancel,
        killed_retries=2,
        warm=warm,
    )
    assert (result.cancelled, result.exit_code) == (True, -15)


def test_a_job_that_takes_too_long_is_told_with_its_limit_and_its_log(tmp_path: Path, warm: WarmJobs | None) -> None:
    log = tmp_path / "job.log"
    result = run_job("http.server", ["0"], log=log, timeout_s=0.5, killed_retries=2, warm=warm)
    error = JobErrors(what="training", failed=TrainingFailed, log=log, if_late="raise timeout_s").of(result)
    assert str(error) == f"training took longer than its limit of 0.5 s; raise timeout_s (log: {log})"
    assert (type(error), result.tries) == (TrainingFailed, 1)


def test_a_job_is_the_same_program_cold_and_warm(tmp_path: Path, warm: WarmJobs | None) -> None:
    said: list[dict[str, object]] = []
    result = run_job(
        "tests.component.cycle.telling_job",
        ["one", "two"],
        log=tmp_path / "job.log",
        timeout_s=30,
        niceness=3,
        on_progress=said.append,
        environment={"TOLD": "yes"},
        warm=warm,
    )
    parent = os.getpid() if warm is None else warm.pid
    own = {
        "parent": parent,
        "module": "__main__",
        "arguments": ["one", "two"],
        "told": "yes",
        "leads_its_session": True,
    }
    assert said[0] == own | {"niceness": min(19, max(3, os.nice(0))), "nobody_else_holds_its_output": True}
    assert (result.exit_code, result.tail) == (7, "its last words")


def test_a_job_leaves_a_processor_to_what_serves_in_another_session(tmp_path: Path, warm: WarmJobs | None) -> None:
    module, cpu = "tests.component.cycle.spinning_job", str(min(os.sched_getaffinity(0)))
    said: list[dict[str, float]] = []
    serves = subprocess.Popen(
        [sys.executable, "-m", module, cpu, "60"], stdout=subprocess.DEVNULL, start_new_session=True
    )
    try:
        end = time.monotonic() + 30
        while os.sched_getaffinity(serves.pid) != {int(cpu)} and time.monotonic() < end:
            time.sleep(0.02)  # it still starts
        run_job(
            module,
            [cpu, "1.5"],
            log=tmp_path / "job.log",
            timeout_s=60,
            niceness=19,
            on_progress=said.append,
            warm=warm,
        )
    finally:
        serves.kill()
        serves.wait()
    assert said[0]["share"] < 0.2, "half of it is what two sessions get that are equal"


def test_a_warm_process_that_dies_is_replaced_and_meanwhile_jobs_start_cold(tmp_path: Path) -> None:
    jobs = WarmJobs(["numpy"])
    try:
        jobs.start()
        first = _pid(jobs)
        os.kill(first, signal.SIGKILL)
        result, seen = _run(tmp_path, 0, 0, jobs)
        assert (result.exit_code, seen) == (0, 1)
        assert _pid(jobs, other_than=first) != first
    finally:
        jobs.close()
    assert jobs.pid is None


def _pid(jobs: WarmJobs, other_than: int | None = None) -> int:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if (pid := jobs.pid) is not None and pid != other_than:
            return pid
        time.sleep(0.05)
    raise AssertionError("no warm process came up")


def test_an_export_killed_after_its_bundle_appeared_has_succeeded(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second try finds the bundle there and refuses to write it twice; it is complete all the same."""
    town.ask(40)
    maker, champion = VersionMaker(town.ledger, town.workspace, "intent"), town.ledger.version("intent", 1)
    staged = town.workspace.repository / ".staging" / "intent_engine-2"
    refused = JobResult(exit_code=2, cancelled=False, timed_out=False, tail="is not empty")
    rows = TrainingRows(fresh=(), replay=(), learnt=())
    monkeypatch.setattr(maker, "_run", lambda *_: refused)
    with pytest.raises(ExportFailed, match="is not empty"):
        maker.export(2, champion, rows, 1, lambda _: None)

    def run(*_: object) -> JobResult:
        staged.mkdir(parents=True)
        (staged / "manifest.json").write_text("{}")
        return refused

    monkeypatch.setattr(maker, "_run", run)
    assert maker.export(2, champion, rows, 1, lambda _: None) == staged
    monkeypatch.setattr(maker, "_run", lambda *_: pytest.fail("a complete bundle is not exported again"))
    assert maker.export(2, champion, rows, 1, lambda _: None) == staged
