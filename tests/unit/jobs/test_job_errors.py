"""Which error the end of a job becomes, and what its message tells."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from perennial.continual.errors import (
    BundleRejected,
    ConfigurationError,
    DependencyUnreachable,
    ExportFailed,
    ParityFailed,
    PerennialError,
)
from perennial.continual.jobs.errors import JobErrors
from perennial.continual.jobs.process import JobResult

LOG = Path("/state/export.log")
TAIL = "first line\nlast line"


def ended(exit_code: int = 1, **more: Any) -> JobResult:
    """A job that ended so."""
    return JobResult(**{"exit_code": exit_code, "cancelled": False, "timed_out": False, "tail": TAIL, **more})


@pytest.mark.parametrize(
    ("result", "message"),
    [
        (ended(3), "export ended with exit code 3: last line (log: /state/export.log)"),
        (ended(0), "export ended with exit code 0: last line (log: /state/export.log)"),
        (ended(1, tail=""), "export ended with exit code 1: nothing on stderr (log: /state/export.log)"),
        (ended(143, cancelled=True), "export was cancelled"),
        (
            ended(-9, tries=3),
            "export was ended by SIGKILL 3 times (the system may be out of memory): last line (log: /state/export.log)",
        ),
        (ended(-15), "export was ended by SIGTERM (somebody ended it): last line (log: /state/export.log)"),
        (ended(-11), "export was ended by SIGSEGV (it crashed): last line (log: /state/export.log)"),
        (
            ended(-15, timed_out=True, limit_s=60.0),
            "export took longer than its limit of 60 s; raise engine.timeout_s (log: /state/export.log)",
        ),
    ],
)
def test_each_end_is_told_apart(result: JobResult, message: str) -> None:
    errors = JobErrors(what="export", failed=ExportFailed, log=LOG, if_late="raise engine.timeout_s")
    error = errors.of(result)
    assert (type(error), str(error)) == (ExportFailed, message)
    then = JobErrors(
        what="export", failed=ExportFailed, log=LOG, if_late="raise engine.timeout_s", next_step="run it again"
    )
    assert str(then.of(result)) == f"{message}; run it again"


def test_without_a_log_that_stays_the_message_holds_all_that_was_said() -> None:
    errors = JobErrors(what="the drift report", failed=PerennialError)
    assert str(errors.of(ended(1))) == "the drift report ended with exit code 1: first line\nlast line"


@pytest.mark.parametrize("refused", [ParityFailed, BundleRejected])
def test_exit_code_4_is_a_refusal_where_the_job_may_refuse(refused: type[ParityFailed | BundleRejected]) -> None:
    errors = JobErrors(what="export", failed=ExportFailed, refused=refused, log=LOG)
    assert (type(errors.of(ended(4))), str(errors.of(ended(4)))) == (refused, "last line")
    assert str(errors.of(ended(4, tail=""))) == f"export was refused without a reason (log: {LOG})"
    assert type(errors.of(ended(1))) is ExportFailed
    assert type(JobErrors(what="export", failed=ExportFailed).of(ended(4))) is ExportFailed


@pytest.mark.parametrize("kind", [ParityFailed, ConfigurationError, DependencyUnreachable])
def test_a_reported_error_comes_back_as_it_was_raised(tmp_path: Path, kind: type[PerennialError]) -> None:
    report = tmp_path / "result.json"
    report.write_text(json.dumps({"error": kind.__name__, "message": "no GPU"}))
    stays = JobErrors(what="export", failed=ExportFailed, report=report, log=LOG).of(ended(1))
    goes = JobErrors(what="export", failed=ExportFailed, report=report).of(ended(1))
    assert (type(stays), str(stays)) == (kind, "no GPU")
    assert (type(goes), str(goes)) == (kind, f"no GPU; it said: {TAIL}")


@pytest.mark.parametrize(
    "content",
    [
        None,
        "{",
        "[]",
        '{"bundle": "a"}',
        '{"error": "KeyError", "message": "x"}',
        '{"error": "annotations"}',
        '{"error": "Mapping", "message": "x"}',
        '{"error": "RowsRefused", "message": "x"}',
    ],
)
def test_a_report_that_names_none_of_our_errors_is_passed_over(tmp_path: Path, content: str | None) -> None:
    report = tmp_path / "result.json"
    if content is not None:
        report.write_text(content)
    error = JobErrors(what="export", failed=ExportFailed, report=report, log=LOG).of(ended(1))
    assert (type(error), str(error)) == (ExportFailed, f"export ended with exit code 1: last line (log: {LOG})")


def test_a_job_that_says_nothing_on_a_full_disk_is_told_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    training = JobErrors(what="training", failed=ExportFailed, log=tmp_path / "train.log")
    assert "full" not in str(training.of(ended(tail="")))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=0))
    assert f"the disk of {tmp_path} is full; make room" in str(training.of(ended(tail="")))
    assert "full" not in str(training.of(ended()))
