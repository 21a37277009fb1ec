"""What is deleted by age is judged by a time that does not jump ahead."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from perennial.ops.store.steady_clock import SteadyClock, boot_id, since_boot_s

T0 = datetime(2026, 3, 1, tzinfo=UTC).timestamp()
DAY_S = 86_400.0
KEPT_S = 30 * DAY_S


class Machine:
    """Its wall clock can be set; its time since boot goes on."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "clock.json"
        self.wall_s, self.steady_s, self.boot = T0, 5_000.0, "first"
        self.clock = self.started()

    def started(self) -> SteadyClock:
        return SteadyClock(
            self.path,
            stands_s=KEPT_S,
            wall=lambda: self.wall_s,
            steady=lambda: self.steady_s,
            boot=lambda: self.boot,
        )

    def pass_s(self, seconds: float) -> None:
        self.wall_s += seconds
        self.steady_s += seconds

    def now_s(self) -> float:
        return self.clock.now().timestamp()


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_a_clock_that_is_right_is_followed(machine: Machine) -> None:
    for _ in range(5):
        machine.pass_s(DAY_S)
        machine.wall_s += 1.0  # a small correction
        assert machine.now_s() == machine.wall_s
    assert machine.clock.describe_jump() == ""


@pytest.mark.parametrize("restarted", [False, True])
def test_a_jump_ahead_ages_nothing_until_it_has_stood_as_long_as_things_are_kept(
    machine: Machine, *, restarted: bool
) -> None:
    machine.now_s()
    machine.wall_s += 400 * DAY_S
    machine.pass_s(60)
    assert machine.now_s() == T0 + 60
    assert "was set by +34560000 s" in machine.clock.describe_jump()
    assert "nothing is deleted by" in machine.clock.describe_jump()
    if restarted:
        machine.clock = machine.started()
    for _ in range(29):
        machine.pass_s(DAY_S)
        assert machine.now_s() == machine.wall_s - 400 * DAY_S
        assert machine.now_s() - T0 < KEPT_S
    machine.pass_s(DAY_S)
    assert machine.now_s() == machine.wall_s
    assert "nothing is deleted" not in machine.clock.describe_jump()


def test_a_jump_ahead_that_is_taken_back_is_forgotten(machine: Machine) -> None:
    machine.now_s()
    machine.wall_s += 400 * DAY_S
    assert machine.now_s() == T0
    machine.wall_s -= 399 * DAY_S
    assert machine.now_s() == T0
    machine.wall_s -= 2 * DAY_S
    assert machine.now_s() == machine.wall_s == T0 - DAY_S


def test_a_jump_while_nobody_looked_is_known_after_a_restart_of_the_process(machine: Machine) -> None:
    machine.now_s()
    machine.pass_s(3_600)
    machine.wall_s += 400 * DAY_S
    machine.clock = machine.started()
    assert machine.now_s() == T0 + 3_600


@pytest.mark.parametrize("put_right", [False, True])
def test_a_restart_of_the_machine_keeps_what_its_clock_is_ahead(machine: Machine, *, put_right: bool) -> None:
    machine.now_s()
    machine.wall_s += 400 * DAY_S
    assert machine.now_s() == T0
    machine.boot, machine.steady_s = "second", 10.0
    machine.wall_s += DAY_S - (400 * DAY_S if put_right else 0)
    machine.clock = machine.started()
    # how long the machine was off nobody can tell, where its clock was put right meanwhile
    assert machine.now_s() == pytest.approx(T0 + (0 if put_right else DAY_S), abs=1)


def test_a_file_that_makes_no_sense_or_cannot_be_written_keeps_nobody_from_working(machine: Machine) -> None:
    machine.path.write_text('{"boot": ')
    machine.clock = machine.started()
    machine.path.unlink()
    machine.path.mkdir()
    machine.wall_s += 400 * DAY_S
    assert machine.now_s() == T0


def test_the_machines_own_clocks_are_read(tmp_path: Path) -> None:
    assert since_boot_s() > 0
    assert len(boot_id()) == 36
    clock = SteadyClock(tmp_path / "clock.json", stands_s=1.0)
    assert abs(clock.now().timestamp() - datetime.now(UTC).timestamp()) < 5
