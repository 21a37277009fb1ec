"""Who makes a first version, and which number it gets: a killed try's, where it was one of the same."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from perennial.continual.errors import Refused
from perennial.ops.commands.adopted_version import adopted_version
from perennial.ops.commands.first_ranking import first_ranking
from perennial.ops.commands.first_version import first_version, training_number
from perennial.ops.ledger import Ledger, VersionState
from perennial.ops.settings import Settings
from perennial.ops.store.workspace import Workspace


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


@pytest.mark.parametrize(
    "make",
    [
        lambda ledger, workspace: first_version(ledger, workspace, "intent", []),
        lambda ledger, workspace: first_ranking(ledger, workspace, "intent", [], []),
        lambda ledger, workspace: adopted_version(ledger, workspace, "intent", Path("nowhere")),
    ],
    ids=["rows", "events", "classifier"],
)
def test_who_comes_second_is_told_and_changes_nothing(
    tmp_path: Path, make: Callable[[Ledger, Workspace], object]
) -> None:
    workspace = Workspace(Settings(state=tmp_path / "state", repository=tmp_path / "models", models={"intent": {}}))
    with Ledger.open(workspace.settings.ledger_address) as ledger:
        with workspace.claim_beginning("intent"), workspace.claim_beginning("another"):
            before = sorted(tmp_path.rglob("*"))
            with pytest.raises(
                Refused, match=rf"another `perennial init` \(pid {os.getpid()}\) makes the first version"
            ):
                make(ledger, workspace)
            assert sorted(tmp_path.rglob("*")) == before
            assert ledger.models() == ()
        with workspace.claim_beginning("intent"):
            pass
