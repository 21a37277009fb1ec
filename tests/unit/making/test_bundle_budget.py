"""Which bundles go, how much memory there is, and what Triton may keep loaded."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perennial.continual.errors import Refused
from perennial.continual.jobs.memory import available_mb, resident_mb
from perennial.continual.records import Route
from perennial.continual.route import promoted, rolled_back, settled, with_challenger, without_challenger
from perennial.ops.making.retention import superfluous

VERSIONS = st.sets(st.integers(1, 12))


@given(on_disk=VERSIONS, needed=VERSIONS, turned_away=VERSIONS, most=st.integers(1, 12))
def test_the_disk_budget_is_kept_unless_somebody_needs_more(on_disk, needed, turned_away, most):
    gone = set(superfluous(on_disk, needed=needed, turned_away=turned_away, most=most))
    kept = on_disk - gone
    assert gone <= on_disk - needed
    assert len(kept) <= max(most, len(on_disk & needed))
    assert not gone or len(kept) >= most, "no more than necessary"
    free = kept - needed
    if gone - turned_away:
        assert not free & turned_away, "what was turned away goes before what was not"
    for part in (turned_away, on_disk - turned_away):
        assert not (gone & part and free & part) or max(gone & part) < min(free & part), "the oldest go first"


@pytest.mark.slow
@given(
    resident=st.integers(1, 4),
    steps=st.lists(st.tuples(st.sampled_from(["canary", "win", "lose", "back"]), st.integers(0, 3)), max_size=20),
)
def test_triton_never_holds_more_than_its_budget_and_a_challenger(resident, steps):
    route, newest = Route(model="intent", epoch=1, champion=1, resident=(1,)), 1
    for kind, _ in steps:
        if kind == "back":
            try:
                route = rolled_back()(route)
            except Refused:
                continue
        else:
            newest += 1
            route = with_challenger(newest, 0.1, resident=resident)(route)
            assert len(route.resident) <= max(2, resident) + 1
            route = promoted(newest, resident=resident)(route) if kind == "win" else without_challenger(newest)(route)
        assert len(route.resident) <= max(2, resident), "a rollback must stay possible while a version is on probation"
        route = settled(resident=resident)(route)
        assert len(route.resident) <= resident
        assert settled(resident=resident)(route) == route
        if resident > 1 and route.previous is None:
            assert len(route.resident) == 1


def test_a_budget_of_one_lets_the_previous_champion_go_after_probation():
    route = promoted(2, resident=1)(
        with_challenger(2, 0.0, resident=1)(Route(model="m", epoch=1, champion=1, resident=(1,)))
    )
    assert (route.previous, route.resident) == (1, (1, 2))
    after = settled(resident=1)(route)
    assert (after.champion, after.previous, after.resident) == (2, None, (2,))


def test_available_memory_is_the_machines_or_the_containers(tmp_path: Path):
    meminfo, cgroup = tmp_path / "meminfo", tmp_path / "cgroup"
    meminfo.write_text("MemTotal:       8192 kB\nMemAvailable:   4096 kB\n")
    assert available_mb(meminfo, cgroup) == 4.0
    cgroup.mkdir()
    (cgroup / "memory.current").write_text(f"{3 * 2**20}\n")
    (cgroup / "memory.stat").write_text(f"anon 5\ninactive_file {2**20}\n")
    (cgroup / "memory.max").write_text("max\n")
    assert available_mb(meminfo, cgroup) == 4.0
    (cgroup / "memory.max").write_text(f"{5 * 2**20}\n")
    assert available_mb(meminfo, cgroup) == 3.0
    assert available_mb(tmp_path / "none", tmp_path / "none") is None
    assert resident_mb() > 1.0


@pytest.mark.parametrize(("free", "most", "gone"), [([4], 3, (2, 4)), ([], 3, (2, 3)), ([], 5, ())])
def test_versions_that_were_turned_away_go_first(free, most, gone):
    assert superfluous([1, 2, 3, 4, 5], needed=[1], turned_away=free, most=most) == gone
