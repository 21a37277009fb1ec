"""A process that keeps little memory gives back what it needed for a while, whatever still lies beside it."""

import mmap
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from perennial.continual.jobs.memory import let_go_of_pages

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


_TAKEN_AGAIN = """
import resource
import sys
import numpy as np
from perennial.continual.jobs.memory import keep_freed, take_ahead

if "kept" in sys.argv:
    keep_freed()
    take_ahead(64.0)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(2):
    blocks = [np.ones(3 * 2**17) for _ in range(16)]
    del blocks
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc is told how much to keep")
def test_memory_that_was_taken_ahead_costs_no_faults_later() -> None:
    usual, kept = (
        int(
            subprocess.run(
                [sys.executable, "-P", "-c", _TAKEN_AGAIN, how], capture_output=True, text=True, check=True, timeout=60
            ).stdout
        )
        for how in ("usual", "kept")
    )
    assert usual > 5_000, f"{usual} faults: the test shows nothing"
    assert kept < usual / 10, f"{kept} faults of {usual} are left"


_MEGABYTES = 8


def _held_kb(file: Path) -> int:
    """Of a file's mappings in this process."""
    held, counts = 0, False
    for line in Path("/proc/self/smaps").read_text(encoding="utf-8", errors="replace").splitlines():
        if "-" in line.split()[0]:
            counts = line.endswith(str(file))
        elif counts and line.startswith("Rss:"):
            held += int(line.split()[1])
    return held


@pytest.fixture
def mapped_file(tmp_path: Path) -> Path:
    path = tmp_path / "weights with a name.bin"
    path.write_bytes(bytes(range(256)) * 4 * 1024 * _MEGABYTES)
    return path


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lists a process's mappings")
def test_pages_of_a_file_are_let_go_of_and_read_again(mapped_file: Path) -> None:
    with mapped_file.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as seen:
        before = seen[:]
        assert _held_kb(mapped_file) == 1024 * _MEGABYTES
        assert let_go_of_pages([mapped_file]) == 2**20 * _MEGABYTES
        assert _held_kb(mapped_file) == 0
        assert seen[:] == before


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lists a process's mappings")
def test_a_change_of_this_process_is_not_let_go_of(mapped_file: Path) -> None:
    with mapped_file.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY) as changed:
        changed[5] = 77
        assert let_go_of_pages([mapped_file]) == 0
        assert changed[5] == 77


_CONVERTS = """
import sys
from perennial.continual.jobs.memory import without_pandas

if "without" in sys.argv:
    without_pandas()
import pyarrow

pyarrow.record_batch({"text": ["a", None], "scores": [[0.5], [1.5]]})
print("pandas" in sys.modules)
"""


@pytest.mark.parametrize("how", ["with", "without"])
def test_arrow_converts_without_pandas(how: str) -> None:
    """That it would import it is shown beside: else there is nothing to keep out."""
    argv = [sys.executable, "-P", "-c", _CONVERTS, how]
    printed = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=60).stdout
    assert printed.strip() == str(how == "with")
