"""What becomes of a job that something kills."""

import threading
from pathlib import Path

import pytest

from ops.loop.process import JobResult, run_job

pytestmark = pytest.mark.component


def _run(folder: Path, times: int, retries: int) -> tuple[JobResult, int]:
    noted = folder / "runs"
    result = run_job(
        "tests.component.loop.dying_job",
        [str(noted), str(times)],
        log=folder / "job.log",
        timeout_s=30,
        niceness=0,
        cancel=threading.Event(),
        killed_retries=retries,
    )
    return result, len(noted.read_text().splitlines()) if noted.exists() else 0


@pytest.mark.parametrize(
    ("times", "retries", "code", "runs"), [(0, 2, 0, 1), (2, 2, 0, 3), (3, 2, -9, 3), (1, 0, -9, 1)]
)
def test_a_killed_job_is_begun_again_so_often(tmp_path: Path, times: int, retries: int, code: int, runs: int) -> None:
    result, seen = _run(tmp_path, times, retries)
    assert (result.exit_code, seen) == (code, runs)


def test_a_job_that_was_told_to_end_is_not_begun_again(tmp_path: Path) -> None:
    cancel = threading.Event()
    threading.Timer(1.0, cancel.set).start()
    result = run_job(
        "http.server", ["0"], log=tmp_path / "job.log", timeout_s=30, niceness=0, cancel=cancel, killed_retries=2
    )
    assert (result.cancelled, result.exit_code) == (True, -15)
