"""What exchanges with noise have told: kept over restarts, counted once for a round, and never spent twice."""

import subprocess
import sys
from pathlib import Path

import pytest

from perennial.continual.errors import DataError, Refused
from perennial.continual.privacy.noise import Privacy
from perennial.ops.settings import load_settings
from perennial.ops.store.federation import Federation
from perennial.ops.store.workspace import Workspace

ONE, LIMIT = Privacy(epsilon=1.0, delta=1e-5), Privacy(epsilon=1.5, delta=1e-5)
_SPEND = """
import sys
from pathlib import Path
from tests.unit.store.test_federation_budget import LIMIT, ONE, federation
from perennial.continual.errors import Refused
try:
    federation(Path(sys.argv[1])).spend(sys.argv[2], ONE, limit=LIMIT)
except Refused:
    sys.exit(4)
"""


def federation(folder: Path) -> Federation:
    """As a new process finds it: settings written once, for another process may be reading them."""
    config = folder / "perennial.toml"
    if not config.exists():
        config.write_text('state = "state"\n')
    return Federation(Workspace(load_settings(config)), "intent")


def test_a_round_is_counted_once_and_the_next_one_by_the_root_of_squares(tmp_path: Path) -> None:
    assert federation(tmp_path).spend("a", ONE, limit=LIMIT) == pytest.approx(1.0)
    assert federation(tmp_path).spend("a", ONE, limit=LIMIT) == pytest.approx(1.0)
    assert federation(tmp_path).spend("b", ONE, limit=LIMIT) == pytest.approx(1.465, abs=1e-3)
    assert [spent.round for spent in federation(tmp_path).spent] == ["a", "b"]


def test_what_would_exceed_the_budget_is_refused_and_not_counted(tmp_path: Path) -> None:
    held = federation(tmp_path)
    held.spend("a", ONE, limit=LIMIT)
    with pytest.raises(Refused, match=r"of which 1 exchanges have spent 1; announce a smaller --epsilon"):
        held.spend("b", Privacy(epsilon=1.4, delta=1e-5), limit=LIMIT)
    assert len(held.spent) == 1
    held.spend("whole", Privacy(epsilon=1.4, delta=1e-5), limit=None)


def test_a_budget_may_be_spent_whole_at_once(tmp_path: Path) -> None:
    assert federation(tmp_path).spend("a", LIMIT, limit=LIMIT) == pytest.approx(1.5)


def test_processes_beside_each_other_do_not_spend_the_same_rest(tmp_path: Path) -> None:
    """Two rounds of epsilon 1 are 1.47, and three would be 1.8."""
    assert not federation(tmp_path).spent
    command = [sys.executable, "-c", _SPEND, str(tmp_path)]
    running = [subprocess.Popen([*command, f"round{number}"]) for number in range(3)]
    assert sorted(process.wait(timeout=120) for process in running) == [0, 0, 4]
    assert len(federation(tmp_path).spent) == 2


def test_a_damaged_budget_lets_nothing_out(tmp_path: Path) -> None:
    held = federation(tmp_path)
    held.spend("a", ONE, limit=LIMIT)
    held._budget.write_text("[")
    with pytest.raises(DataError, match="restore it from a backup"):
        held.spend("b", ONE, limit=LIMIT)
