"""A process that keeps little memory gives back what it needed for a while, whatever still lies beside it."""

import platform
import subprocess
import sys

import pytest

_NEEDED_FOR_A_WHILE = """
import sys
import numpy as np
from perennial.continual.jobs.memory import keep_little, resident_mb

if "little" in sys.argv:
    keep_little()
before = resident_mb()
block = np.ones(30 * 2**17)  # glibc learns from its end that blocks as large as this come and go
del block
blocks = [np.ones(4 * 2**17) for _ in range(20)]
kept = [bytes(1_000) for _ in range(2_000)]  # on top of them
del blocks
print(resident_mb() - before)
"""


def _left_mb(*how: str) -> float:
    argv = [sys.executable, "-P", "-c", _NEEDED_FOR_A_WHILE, *how]
    return float(subprocess.run(argv, capture_output=True, text=True, check=True, timeout=60).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc is told how much to keep")
def test_what_was_needed_for_a_while_is_given_back() -> None:
    usual, little = _left_mb(), _left_mb("little")
    assert usual > 50, f"{usual:.0f} MB stay: the test shows nothing"
    assert little < 20, f"{little:.0f} of 80 MB stayed"
