"""The file that tells a training process what to do."""

from pathlib import Path

import pytest

from perennial.continual.learning.names import LearnerName
from perennial.continual.learning.spec import JobSpec


@pytest.mark.parametrize("learner", list(LearnerName))
def test_a_written_spec_is_read_as_it_was(tmp_path: Path, learner: LearnerName) -> None:
    whole = JobSpec(
        learner=learner,
        examples=tmp_path / "examples.jsonl",
        out=tmp_path / "trained",
        encoder=str(tmp_path / "encoder"),
        previous=tmp_path / "1",
        replay=tmp_path / "replay.jsonl",
        holdout=tmp_path / "holdout.jsonl",
        erase=tmp_path / "erase.jsonl",
        unlabelled=tmp_path / "texts.txt",
        cache=tmp_path / "embeddings",
        seed=3,
        threads=2,
        nice=0,
        max_length=64,
        parent_version=1,
        params={"descriptions": {"größe": "a size"}},
    )
    for spec in (whole, JobSpec(learner=learner, examples=None, out=tmp_path / "trained")):
        spec.write(tmp_path / "train.json")
        assert JobSpec.read(tmp_path / "train.json") == spec


def test_paths_of_a_written_spec_are_those_of_its_writer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    spec = JobSpec(learner=LearnerName.KERNEL_LDA, examples=Path("rows.jsonl"), out=Path("trained"))
    spec.write(Path("specs/train.json"))
    read = JobSpec.read(tmp_path / "specs" / "train.json")
    assert (read.examples, read.out) == (tmp_path / "rows.jsonl", tmp_path / "trained")
