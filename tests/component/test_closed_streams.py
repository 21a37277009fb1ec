"""Standard streams may be closed, as some schedulers start commands: each does its work all the same."""

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.component

_CLOSE = "import os, sys; [os.close(int(n)) for n in sys.argv[1].split(',')]; os.execv(sys.executable, sys.argv[2:])"


@pytest.mark.parametrize("closed", ["1", "2", "0,1,2"])
def test_a_command_with_closed_streams_ends_well(closed: str, tmp_path: Path) -> None:
    config = tmp_path / "perennial.toml"
    config.write_text(f'state = "{tmp_path}/var"\nrepository = "{tmp_path}/repository"\n[models.intent]\n')
    command = [sys.executable, "-m", "perennial.ops.cli.main", "model", "list", "--config", str(config)]
    done = subprocess.run(
        [sys.executable, "-c", _CLOSE, closed, *command], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done
    assert "Traceback" not in done.stdout + done.stderr
