"""Sweeps: they search, they keep what was tried, and they go on."""

import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from perennial.continual.errors import ConfigurationError, DependencyUnreachable, TrainingFailed
from perennial.continual.learning.card import ModelCard
from perennial.continual.learning.context import Context
from perennial.continual.learning.names import LearnerName
from perennial.continual.learning.spec import JobSpec
from perennial.continual.learning.sweep import Trial, sweep
from tests.unit.learning.cards import text_card
from tests.unit.learning.conftest import make_rows

pytestmark = pytest.mark.slow


def card(accuracy: float, loss: float = 0.5) -> ModelCard:
    return text_card(metrics={"holdout_accuracy": accuracy, "holdout_log_loss": loss})


@pytest.fixture
def base(tmp_path: Path) -> JobSpec:
    return JobSpec(learner=LearnerName.KERNEL_LDA, examples=None, holdout=tmp_path / "held.jsonl", out=tmp_path / "out")


def near_a_half(spec: JobSpec, context: Context) -> ModelCard:
    """A landscape whose best place is gamma 0.5."""
    del context
    return card(1.0 - min(abs(spec.params["gamma"] - 0.5), 0.9))


def test_sweep_finds_the_better_place_and_returns_whole_params(base: JobSpec, tmp_path: Path) -> None:
    trials: list[Trial] = []
    fixed = replace(base, params={"features": 300, "shrinkage": 1e-5})
    result = sweep(fixed, trials=25, storage=tmp_path / "sweep.db", on_trial=trials.append, train=near_a_half)
    assert len(result.trials) == len(trials) == 25
    assert abs(result.best.params["gamma"] - 0.5) < 0.1
    assert (result.best.params["features"], result.best.params["shrinkage"]) == (300, 1e-5)
    assert result.best.score == min(trial.score for trial in trials)


def test_killed_sweep_goes_on_and_does_not_repeat_itself(base: JobSpec, tmp_path: Path) -> None:
    def dies_at_third(spec: JobSpec, context: Context) -> ModelCard:
        if len(seen) == 2:
            raise KeyboardInterrupt
        seen.append(spec.params["gamma"])
        return near_a_half(spec, context)

    seen: list[float] = []
    with pytest.raises(KeyboardInterrupt):
        sweep(base, trials=5, storage=tmp_path / "sweep.db", train=dies_at_third)
    result = sweep(base, trials=5, storage=tmp_path / "sweep.db", train=near_a_half)
    assert [trial.params["gamma"] for trial in result.trials[:2]] == seen
    assert len({trial.params["gamma"] for trial in result.trials}) == 5
    again: list[Any] = []
    sweep(base, trials=5, storage=tmp_path / "sweep.db", on_trial=again.append, train=near_a_half)
    assert again == []


def test_failed_trials_do_not_count(base: JobSpec, tmp_path: Path) -> None:
    def sometimes(spec: JobSpec, context: Context) -> ModelCard:
        if "trial-1" in str(spec.out):
            raise TrainingFailed("diverged")
        return near_a_half(spec, context)

    result = sweep(base, trials=3, storage=tmp_path / "sweep.db", train=sometimes)
    assert [trial.number for trial in result.trials] == [0, 2, 3]

    def never(spec: JobSpec, context: Context) -> ModelCard:
        raise TrainingFailed("diverged")

    with pytest.raises(TrainingFailed, match="too few succeeded"):
        sweep(base, trials=2, storage=tmp_path / "other.db", train=never)


def test_a_sweep_ends_in_time_with_what_has_finished(base: JobSpec, tmp_path: Path) -> None:
    def slower_and_slower(spec: JobSpec, context: Context) -> ModelCard:
        while spec.out.name != "trial-0":  # works on until its time is over
            context.checkpoint()
            time.sleep(0.01)
        return near_a_half(spec, context)

    storage = tmp_path / "sweep.db"
    result = sweep(base, trials=5, seconds=3, storage=storage, train=slower_and_slower)
    assert [trial.number for trial in result.trials] == [0]
    result = sweep(base, trials=3, seconds=60, storage=storage, train=near_a_half)  # what was given up is no trial
    assert [trial.number for trial in result.trials] == [0, 2, 3]


def test_a_sweep_says_so_where_no_training_ended_in_time(base: JobSpec, tmp_path: Path) -> None:
    def never(spec: JobSpec, context: Context) -> ModelCard:
        while True:
            context.checkpoint()
            time.sleep(0.01)

    with pytest.raises(TrainingFailed, match="no training ended within 1 seconds; allow more time"):
        sweep(base, trials=5, seconds=1, storage=tmp_path / "sweep.db", train=never)


def test_trainings_go_on_beside_each_other(base: JobSpec, tmp_path: Path) -> None:
    both = threading.Barrier(2)

    def together(spec: JobSpec, context: Context) -> ModelCard:
        both.wait(60)
        return near_a_half(spec, context)

    result = sweep(base, trials=4, storage=tmp_path / "sweep.db", train=together, at_once=2)
    assert [trial.number for trial in result.trials] == [0, 1, 2, 3]
    with pytest.raises(ConfigurationError, match="0 at once"):
        sweep(base, trials=1, storage=tmp_path / "sweep.db", train=near_a_half, at_once=0)


def test_a_sweep_that_cannot_go_on_stops_what_it_began(base: JobSpec, tmp_path: Path) -> None:
    begun, stopped = threading.Event(), threading.Event()

    def train(spec: JobSpec, context: Context) -> ModelCard:
        if spec.out.name == "trial-0":
            assert begun.wait(60)
            raise DependencyUnreachable("the cluster is away")
        begun.set()
        try:
            while True:
                context.checkpoint()
                time.sleep(0.01)
        finally:
            stopped.set()

    with pytest.raises(DependencyUnreachable, match="the cluster is away"):
        sweep(base, trials=2, storage=tmp_path / "sweep.db", train=train, at_once=2)
    assert stopped.wait(60)


def test_sweep_needs_rows_and_something_to_search(base: JobSpec, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="needs rows"):
        sweep(replace(base, holdout=None), trials=1, storage=tmp_path / "sweep.db", train=near_a_half)
    with pytest.raises(ConfigurationError, match="0 seconds"):
        sweep(base, trials=1, seconds=0, storage=tmp_path / "sweep.db", train=near_a_half)
    everything = replace(base, params={"gamma": 0.5, "shrinkage": 1e-5})
    with pytest.raises(ConfigurationError, match="nothing to search"):
        sweep(everything, trials=1, storage=tmp_path / "sweep.db", train=near_a_half)


def test_sweep_of_a_strategy_searches_its_own_settings(base: JobSpec, tmp_path: Path) -> None:
    def train(spec: JobSpec, context: Context) -> ModelCard:
        del context
        return card(spec.params["strategy_settings"]["alpha"])

    slow = replace(base, learner=LearnerName.FINETUNE, params={"strategy": "der++", "epochs": 1})
    best = sweep(slow, trials=3, storage=tmp_path / "sweep.db", train=train).best
    assert set(best.params) == {"strategy", "epochs", "learning_rate", "strategy_settings"}
    assert set(best.params["strategy_settings"]) == {"alpha", "beta"}


def test_sweep_of_the_real_learner(make_spec: Any, tmp_path: Path) -> None:
    path = make_spec("one", examples=make_rows("card loan", 30, 1), holdout=make_rows("card loan", 30, 9))
    spec = JobSpec.read(path)
    result = sweep(spec, trials=2, storage=tmp_path / "sweep.db")
    assert result.best.accuracy > 0.8
    assert list(spec.out.iterdir()) == []


def test_a_study_is_not_mixed_with_another_job(base: JobSpec, tmp_path: Path) -> None:
    storage = tmp_path / "sweep.db"
    row = '{"text": "%s", "label": "a", "at": "2026-01-01T00:00:00+00:00"}\n'
    (tmp_path / "held.jsonl").write_text(row % "one")
    sweep(base, trials=1, storage=storage, train=near_a_half)
    for other in (replace(base, params={"features": 9}), replace(base, encoder="another")):
        with pytest.raises(ConfigurationError, match=r"study 'sweep' was begun with another (params|encoder)"):
            sweep(other, trials=1, storage=storage, train=near_a_half)
    (tmp_path / "held.jsonl").write_text((row % "one").replace("2026", "2027"))  # the same rows, read another day
    assert len(sweep(base, trials=2, storage=storage, train=near_a_half).trials) == 2
    (tmp_path / "held.jsonl").write_text(row % "two")
    with pytest.raises(ConfigurationError, match="another rows"):
        sweep(base, trials=1, storage=storage, train=near_a_half)
    assert len(sweep(base, trials=1, storage=storage, study="second", train=near_a_half).trials) == 1


def test_sweep_killed_by_the_system_keeps_its_finished_trials(base: JobSpec, tmp_path: Path) -> None:
    """kill -9 in the third training: no handler runs."""
    script = (
        "import os, signal, sys; from pathlib import Path\n"
        "from perennial.continual.learning.names import LearnerName\n"
        "from perennial.continual.learning.spec import JobSpec\n"
        "from perennial.continual.learning.sweep import sweep\n"
        "from tests.unit.learning.test_sweep import near_a_half\n"
        "def train(spec, context):\n"
        "    if spec.out.name == 'trial-2': os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return near_a_half(spec, context)\n"
        "folder = Path(sys.argv[1])\n"
        "held, out = folder / 'held.jsonl', folder / 'out'\n"
        "spec = JobSpec(learner=LearnerName.KERNEL_LDA, examples=None, holdout=held, out=out)\n"
        "sweep(spec, trials=5, storage=folder / 'sweep.db', train=train)\n"
    )
    died = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, check=False)
    assert died.returncode == -signal.SIGKILL, died.stderr
    trials: list[Trial] = []
    result = sweep(base, trials=5, storage=tmp_path / "sweep.db", on_trial=trials.append, train=near_a_half)
    assert (len(trials), len(result.trials)) == (3, 5)
    assert [trial.number for trial in result.trials] == [0, 1, 3, 4, 5]
