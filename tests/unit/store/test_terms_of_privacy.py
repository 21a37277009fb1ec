"""What a version may tell where the settings name a budget alone."""

from pathlib import Path

import pytest

from perennial.continual.errors import Refused
from perennial.continual.privacy.budget import Budget, Telling, Terms
from perennial.ops.settings import Settings
from perennial.ops.store.privacy import terms_of
from perennial.ops.store.workspace import Workspace


def terms(folder: Path, version: int, **privacy: float) -> Terms:
    learning = {"learner": "kernel_lda", "encoder": "packaged:minilm"}
    models = {"intent": {"learning": learning, "engine": {"precision": "fp32"}, "privacy": privacy}}
    settings = Settings.model_validate({"state": folder, "repository": folder / "r", "models": models})
    record = terms_of(Workspace(settings), "intent", version)
    assert record is not None
    return Terms.of(record)


def test_a_budget_alone_has_room_for_a_version_and_two_that_are_turned_away(tmp_path: Path) -> None:
    """Else the first one would spend it, and each later one would be refused."""
    for version in (1, 2, 3):
        told = terms(tmp_path, version, epsilon=8.0)
        assert told.epsilon == pytest.approx(4.185, abs=1e-3)
        spent = Budget(told.budget).spend(told, Telling.ALL, parent=None)
    assert spent == pytest.approx(8.0)
    with pytest.raises(Refused, match="the budget is 8, of which 3 versions have spent 8"):
        Budget(told.budget).spend(terms(tmp_path, 4, epsilon=8.0), Telling.ALL, parent=None)


def test_an_erasure_fits_in_too(tmp_path: Path) -> None:
    first, second = (terms(tmp_path, version, epsilon=8.0) for version in (1, 2))
    Budget(first.budget).spend(first, Telling.ALL, parent=None)
    assert Budget(second.budget).spend(second, Telling.CHANGED, parent=1) == pytest.approx(8.0)


def test_a_version_may_spend_what_is_named(tmp_path: Path) -> None:
    assert terms(tmp_path, 1, epsilon=8.0, version_epsilon=8.0).epsilon == 8.0
