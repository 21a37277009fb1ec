"""What lies in the working folder takes no name from a job, whatever it is called."""

import sys
from pathlib import Path

import pytest

from perennial.continual.jobs.module import module_command
from perennial.continual.jobs.process import run_job
from perennial.ops.serving.server.installation import Installation

_NAMES = ("json", "numpy", "runpy", "perennial", "ctypes", "torch")


@pytest.fixture
def hostile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder whose files would say so if a process imported one."""
    folder = tmp_path / "downloads"
    folder.mkdir()
    for name in _NAMES:
        (folder / f"{name}.py").write_text(
            f"open({str(tmp_path / 'imported')!r}, 'a').write(__name__)\nraise SystemExit(77)\n"
        )
    monkeypatch.chdir(folder)
    monkeypatch.delenv("PYTHONPATH", raising=False)
    return tmp_path


def test_a_job_imports_nothing_of_the_working_folder(hostile: Path) -> None:
    log = hostile / "job.log"
    ended = run_job("perennial.continual.learning.job", [str(hostile / "no spec")], log=log, timeout_s=120)
    assert not (hostile / "imported").exists(), log.read_text()
    assert ended.exit_code == 2
    assert "no spec" in log.read_text(), "it is the job that says so"


def test_a_program_of_ours_is_found_from_any_folder(hostile: Path) -> None:
    ended = run_job("perennial.ops.cli", ["--help"], log=hostile / "log", timeout_s=120)
    assert (ended.exit_code, (hostile / "imported").exists()) == (0, False), ended.tail
    assert module_command("perennial.ops.cli")[:2] == [sys.executable, "-P"]


def test_the_backends_are_not_told_of_the_working_folder(hostile: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def visible() -> list[str]:
        made = Installation(binary=hostile, backends=hostile, library_path="").environment()
        return made["PERENNIAL_PYTHONPATH"].split(":")

    here = str(Path.cwd())
    for first in ("", here):  # as `python -c` and `python -m` put it
        monkeypatch.setattr(sys, "path", [first, *sys.path])
        assert here not in visible()
    monkeypatch.setenv("PYTHONPATH", here)
    assert here in visible(), "somebody asked for it"
