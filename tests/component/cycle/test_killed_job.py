"""What becomes of a job that something kills."""

import threading
from pathlib import Path

import pytest

from perennial.continual.errors import ExportFailed, TrainingFailed
from perennial.continual.jobs.errors import JobErrors
from perennial.continual.jobs.process import JobResult, run_job
from perennial.ops.making.rows import TrainingRows
from perennial.ops.making.version_maker import VersionMaker
from tests.component.town import Town

pytestmark = [pytest.mark.component, pytest.mark.alone]


def _run(folder: Path, times: int, retries: int) -> tuple[JobResult, int]:
    noted = folder / "runs"
    result = run_job(
        "tests.component.cycle.dying_job",
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


def test_a_job_that_takes_too_long_is_told_with_its_limit_and_its_log(tmp_path: Path) -> None:
    log = tmp_path / "job.log"
    result = run_job("http.server", ["0"], log=log, timeout_s=0.5, killed_retries=2)
    error = JobErrors(what="training", failed=TrainingFailed, log=log, if_late="raise timeout_s").of(result)
    assert str(error) == f"training took longer than its limit of 0.5 s; raise timeout_s (log: {log})"
    assert (type(error), result.tries) == (TrainingFailed, 1)


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
