"""Help comes at once: nothing is loaded for it that takes its time."""

import subprocess
import sys

import pytest

SLOW = {"rich", "numpy", "pyarrow", "sqlalchemy", "sklearn", "torch", "httpx", "openpyxl", "asyncio"}
_TELL = "import sys; from perennial.ops.cli.main import main; sys.argv[0] = 'perennial'; main(); print(*sys.modules)"


@pytest.mark.parametrize(
    ("words", "slow"),
    [(["--help"], SLOW | {"pydantic"}), (["init", "--help"], SLOW), (["model", "report", "--help"], SLOW)],
)
def test_help_loads_nothing_that_takes_its_time(words: list[str], slow: set[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _TELL, *words], capture_output=True, text=True, timeout=120, check=True
    )
    usage, loaded = done.stdout.rstrip("\n").rsplit("\n", 1)
    assert usage.startswith("Usage: perennial")
    assert slow & set(loaded.split()) == set()
