"""What counts as idle: the processors that this process may use, whatever else the machine has."""

import os
from pathlib import Path

import pytest

from perennial.ops.watching.budget import idle_share, processors

_TICKS = 100  # a second


@pytest.mark.parametrize(
    ("own", "others", "quota", "used", "idle"),
    [
        (0.25, 1.0, "max 100000", 5.0, 0.25),  # another program's processors help nobody here
        (0.75, 0.0, "max 100000", 5.0, 0.75),
        (0.75, 1.0, "50000 100000", 4.0, 0.2),  # half a processor for ten seconds are five of its seconds
        (0.75, 1.0, "50000 100000", 0.5, 0.75),
        (0.75, 1.0, None, 5.0, 0.75),
        (0.75, 1.0, "nonsense", 5.0, 0.75),
    ],
)
def test_idle_are_the_processors_that_this_process_may_use(
    tmp_path: Path, own: float, others: float, quota: str | None, used: float, idle: float
) -> None:
    stat, now, cores = tmp_path / "stat", [50.0], sorted(os.sched_getaffinity(0))

    def written(seconds: float, used_s: float) -> None:
        def row(name: str, share: float, count: int = 1) -> str:
            waited, whole = int(count * seconds * _TICKS * share), int(count * seconds * _TICKS)
            return f"{name} {whole - waited} 0 0 {waited} 0 0 0 0 0 0\n"

        rows = [row("cpu ", others, 64), *(row(f"cpu{core}", own) for core in cores), row("cpu4096", others)]
        stat.write_text(f"{''.join(rows)}intr 1 2 3\n")
        (tmp_path / "cpu.stat").write_text(f"usage_usec {int(used_s * 1e6)}\nuser_usec 1\n")

    if quota is not None:
        (tmp_path / "cpu.max").write_text(f"{quota}\n")
    written(100.0, 30.0)
    share = idle_share(stat, tmp_path, lambda: now[0])
    written(110.0, 30.0 + used)
    now[0] += 10.0
    assert share() == pytest.approx(idle)
    assert share() == 0.0, "no time has passed"


def test_a_container_may_have_less_than_a_processor(tmp_path: Path) -> None:
    assert processors(tmp_path) == len(os.sched_getaffinity(0))
    (tmp_path / "cpu.max").write_text("50000 100000\n")
    assert processors(tmp_path) == 0.5
