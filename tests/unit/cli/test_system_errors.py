"""What the operating system refuses ends a command with a sentence, not with a traceback."""

import errno
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from perennial.ops.cli.main import main
from perennial.ops.cli.system_errors import told


def test_a_disk_that_is_full_is_told_with_the_next_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "perennial.toml"
    monkeypatch.setattr(sys, "argv", ["perennial", "init", "intent", "--config", str(config)])
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    mask = os.umask(0o077)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, hard))
    try:
        code = main()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        os.umask(mask)
    shown = capsys.readouterr()
    assert code == 1
    assert "Traceback" not in shown.err
    assert "cannot grow (File too large); free some space and run the command again: it goes on" in shown.err
    assert not config.exists()


@pytest.mark.parametrize(
    ("number", "sentence"),
    [
        (errno.ENOSPC, "/var/x cannot grow (No space left on device); free some space"),
        (errno.EACCES, "/var/x is not this user's to use so (Permission denied); see the owner"),
        (errno.EROFS, "/var/x is not this user's to use so (Read-only file system)"),
        (errno.EMFILE, "/var/x cannot be opened (Too many open files); close other programs"),
        (errno.EIO, "/var/x: Input/output error; see to it"),
    ],
)
def test_each_kind_of_refusal_has_its_sentence(number: int, sentence: str) -> None:
    assert told(OSError(number, os.strerror(number), "/var/x")).startswith(sentence)
    assert told(OSError(number, os.strerror(number))).startswith(sentence.replace("/var/x", "a file"))


def test_whoever_reads_no_further_sees_no_traceback() -> None:
    command = [sys.executable, "-m", "perennial.ops.cli", "--help"]
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True, check=False, env={**os.environ})
    os.close(write)
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    assert done.returncode in {1, 141}
