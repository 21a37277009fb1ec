"""What an export needs is loaded while a first version is trained, where an encoder is to be exported."""

from importlib.util import find_spec
from pathlib import Path

import pytest

from perennial.continual.jobs.warm import WarmJobs
from perennial.ops.making.begun_ahead import _MODULES, export_loading
from perennial.ops.settings import LearningSettings, Settings
from perennial.ops.store.workspace import Workspace


def _workspace(folder: Path, *, warm: bool) -> Workspace:
    return Workspace(Settings(state=folder / "state", repository=folder / "models", schedule={"warm_jobs": warm}))


@pytest.mark.parametrize(
    ("learner", "warm"), [("auto", False), ("item_gram", True)], ids=["not-wanted", "without-an-encoder"]
)
def test_nothing_is_loaded_where_it_is_not_wanted_or_there_is_no_encoder(
    tmp_path: Path, learner: str, warm: bool
) -> None:
    with export_loading(_workspace(tmp_path, warm=warm), LearningSettings(learner=learner)) as jobs:
        assert jobs is None


def test_the_process_loads_at_a_trainings_priority_and_ends_with_the_block(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    monkeypatch.setattr(WarmJobs, "start", lambda jobs: done.append(f"started at {jobs._niceness}"))
    monkeypatch.setattr(WarmJobs, "close", lambda jobs: done.append("closed"))
    with export_loading(_workspace(tmp_path, warm=True), LearningSettings(niceness=7)) as jobs:
        assert jobs is not None
        assert done == ["started at 7"]
    assert done == ["started at 7", "closed"]


@pytest.mark.parametrize("name", _MODULES)
def test_what_is_loaded_ahead_is_there(name: str) -> None:
    """A module that is missing is passed over in silence, and the export would be as slow as before."""
    assert find_spec(name) is not None
