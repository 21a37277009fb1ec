"""A mutant is judged in a process of its own, by the tests named, within its time."""

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.mutate_tests import ROOT

pytestmark = pytest.mark.component

_JUDGE = """
import ast, sys
from benchmarks.mutate_child import start_mutant, wait_any

source, test, wall_s = sys.argv[1:]
child = start_mutant("perennial.continual.errors", ast.parse(source), [test], cpu_s=60.0, wall_s=float(wall_s))
print(wait_any([child])[1])
"""


@pytest.mark.parametrize(
    ("source", "wall_s", "status"),
    [("DataError = int", 60.0, "0"), ("DataError = None", 60.0, "1"), ("while True: pass", 0.5, "None")],
)
def test_a_mutant_passes_fails_or_is_ended(source: str, wall_s: float, status: str, tmp_path: Path) -> None:
    test = tmp_path / "test_error.py"
    test.write_text("from perennial.continual.errors import DataError\n\n\ndef test_error():\n    assert DataError\n")
    command = [sys.executable, "-c", _JUDGE, source, f"{test}::test_error", str(wall_s)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout.strip() == status, done.stderr
