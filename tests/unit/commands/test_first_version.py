"""Which number a first version gets: a killed try's, where it was one of the same."""

from pathlib import Path

from perennial.ops.commands.first_version import training_number
from perennial.ops.ledger import Ledger, VersionState


def test_a_killed_try_is_gone_on_with_where_it_was_of_the_same(tmp_path: Path) -> None:
    mine = {"reason": "taken over", "source": "sha256:1"}
    with Ledger.open(f"sqlite:///{tmp_path / 'ledger.db'}") as ledger:
        ledger.register_model("intent", {})
        assert training_number(ledger, "intent", "finetune", mine) == 1
        assert training_number(ledger, "intent", "finetune", mine) == 1
        assert training_number(ledger, "intent", "finetune", {"reason": "taken over", "source": "sha256:2"}) == 2
        assert training_number(ledger, "intent", "kernel_lda") == 3, "rows are no classifier that was taken over"
        assert training_number(ledger, "intent", "kernel_lda") == 3
        states = {row.version: row.state for row in ledger.versions("intent")}
    assert states == {1: VersionState.FAILED, 2: VersionState.FAILED, 3: VersionState.TRAINING}
