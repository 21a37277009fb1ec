"""The sums of other sites, as a training gets them while a person takes others or leaves."""

from pathlib import Path

from perennial.continual.atomic_file import share_file, write_atomically
from perennial.continual.learning.trained import OTHERS_FILE
from tests.unit.store.test_federation_budget import federation


def test_a_training_has_the_sums_that_it_began_with(tmp_path: Path) -> None:
    held, run = federation(tmp_path), tmp_path / "run"
    assert held.lend_others(run) is None
    kept = tmp_path / "state" / "federation" / "intent" / OTHERS_FILE
    write_atomically(kept, "first")
    lent = held.lend_others(run)
    assert lent is not None
    share_file(lent, tmp_path / "bundle")
    write_atomically(kept, "second")
    assert lent.read_text() == "first"
    assert held.lend_others(run) == lent
    assert lent.read_text() == "second"
    assert (tmp_path / "bundle").read_text() == "first", "an older version keeps what it was made with"
    held.drop_others()
    assert held.lend_others(run) is None
    assert not lent.exists()
