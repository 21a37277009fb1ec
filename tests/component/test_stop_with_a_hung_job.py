"""`perennial serve` ends when it is told to, whatever of it hangs, and leaves nothing running."""

import fcntl
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from perennial.ops.serving.processes import group_members, is_running
from tests.component.test_service_starts import Town
from tests.component.triton_fixtures import MODEL

pytestmark = [pytest.mark.component, pytest.mark.paired]
_STATED_S = 60.0


@pytest.fixture(name="town")
def _town(tmp_path: Path) -> Iterator[Town]:
    town = Town(tmp_path)
    try:
        yield town
    finally:
        town.server.stop()


def test_a_sigterm_with_a_job_that_hangs_ends_everything_in_the_stated_time(town: Town) -> None:
    """Another process holds the lock under which a log is compacted, and never lets go."""
    town.config.write_text(town.config.read_text() + "compact_s = 0.2\n")
    log = town.place.root / "var" / "traffic" / MODEL
    log.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "perennial.ops.cli", "serve", "--config", str(town.config)]
    with (log / ".maintenance.lock").open("a") as held, (town.place.root / "serve.log").open("w+b") as log_file:
        fcntl.flock(held, fcntl.LOCK_EX)
        serve = subprocess.Popen(
            command, stdout=log_file, stderr=log_file, cwd=Path(__file__).parents[2], start_new_session=True
        )
        try:
            _until_compaction_hangs(town)
            pid, ticks = town.triton()
            began = time.monotonic()
            serve.send_signal(signal.SIGTERM)
            assert serve.wait(_STATED_S) == 0
            print(f"ended after {time.monotonic() - began:.1f} s")
        finally:
            serve.kill()
            serve.wait(20)
        assert not is_running(pid, ticks)
        assert group_members(pid) == ()
        assert group_members(serve.pid) == ()
        log_file.seek(0)
        log_text = log_file.read().decode()
    assert f"job compact:{MODEL}" in log_text
    assert "job.hangs_at_stop" in log_text


def _until_compaction_hangs(town: Town) -> None:
    end = time.monotonic() + 90
    while True:
        assert time.monotonic() < end, "the compaction did not begin"
        time.sleep(0.2)
        try:
            parts = httpx.get(f"http://127.0.0.1:{town.api}/healthz", timeout=20).json()["parts"]
        except httpx.TransportError:
            continue
        if "runs for" in parts.get(f"job:compact:{MODEL}", {}).get("note", ""):
            return
