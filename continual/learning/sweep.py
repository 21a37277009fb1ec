"""Hyper-parameters searched on held-out rows, with Optuna; a killed sweep goes on where it was."""

import hashlib
import json
import logging
import math
import shutil
import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from perennial.continual.errors import ConfigurationError, DependencyUnreachable, TrainingFailed
from perennial.continual.learning.card import ModelCard
from perennial.continual.learning.context import Cancelled, Context
from perennial.continual.learning.learners import train_model
from perennial.continual.learning.names import LearnerName
from perennial.continual.learning.rows import read_rows
from perennial.continual.learning.spec import JobSpec

__all__ = ["SweepResult", "Trial", "sweep"]

logger = logging.getLogger(__name__)

_LOSS_WEIGHT = 0.1
Train = Callable[[JobSpec, Context], ModelCard]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One finished training of a sweep. `score` is error rate + 0.1 x log loss on held-out rows: lower is better.

    >>> Trial(number=0, params={"gamma": 0.5}, score=0.1, accuracy=0.93).accuracy
    0.93
    """

    number: int
    params: dict[str, Any]
    score: float
    accuracy: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepResult:
    """All finished trials in order, and the best; give `best.params` to a job as it is.

    >>> trial = Trial(number=0, params={}, score=0.1, accuracy=0.93)
    >>> SweepResult(best=trial, trials=(trial,)).best.number
    0
    """

    best: Trial
    trials: tuple[Trial, ...]


def sweep(
    base: JobSpec,
    *,
    trials: int,
    storage: Path,
    seconds: float = math.inf,
    study: str = "sweep",
    on_trial: Callable[[Trial], None] = lambda _: None,
    train: Train = train_model,
    at_once: int = 1,
) -> SweepResult:
    """Train with different params until `trials` are finished, those of earlier calls with this study included.

    Sooner where the time is over: the training in progress is given up then, and what has finished decides.

    Args:
        base: the job; it needs `holdout` rows. Its own params stay as they are, only the others are searched.
        trials: how many finished trials there shall be in the end.
        storage: SQLite file in which every trial is kept as soon as it ends.
        seconds: for this call.
        study: names the search inside the file; another learner or other rows want another name.
        on_trial: told each trial that ends.
        train: what trains one job.
        at_once: trainings that go on beside each other; with more than one, give `TrainingJobs` to train them.

    Raises:
        ConfigurationError: there is nothing to judge by, nothing to search, or the study was of another job.
        DependencyUnreachable: Optuna is not installed.
        TrainingFailed: no trial succeeded, or none within the time.
    """
    if base.holdout is None or trials < 1 or at_once < 1 or not seconds > 0:
        raise ConfigurationError(
            f"a sweep of {trials} trials, {at_once} at once, in {seconds} seconds with holdout {base.holdout}; it "
            "needs rows, a trial and time"
        )
    optuna = _optuna()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage.parent.mkdir(parents=True, exist_ok=True)
    url = f"sqlite:///{storage}"
    optuna_study = optuna.create_study(study_name=study, storage=url, load_if_exists=True, direction="minimize")
    _same_search(optuna_study, base, study)
    for running in optuna_study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.RUNNING,)):
        optuna_study.tell(running.number, state=optuna.trial.TrialState.FAIL)  # its process died
    complete = (optuna.trial.TrialState.COMPLETE,)
    tried = len(optuna_study.trials)
    optuna_study.sampler = optuna.samplers.TPESampler(seed=base.seed + tried)  # a resumed search does not repeat itself
    until = time.monotonic() + seconds
    with _Runs(base, train, at_once, until) as runs:
        while (ended_now := len(optuna_study.get_trials(deepcopy=False, states=complete))) < trials:
            while time.monotonic() < until and len(runs) < min(at_once, trials - ended_now):
                if len(optuna_study.trials) - tried >= 2 * trials:
                    tries = len(optuna_study.trials)
                    raise TrainingFailed(f"{tries} trials were tried and too few succeeded; see the log")
                runs.begin(optuna_study.ask())
            if not runs:
                break
            for optuna_trial, trial in runs.ended():
                if trial is None:
                    optuna_study.tell(optuna_trial, state=optuna.trial.TrialState.FAIL)
                    continue
                optuna_study.tell(optuna_trial, trial.score)
                on_trial(trial)
    ended = tuple(_trial(row, base) for row in optuna_study.get_trials(deepcopy=False, states=complete))
    if not ended:
        raise TrainingFailed(f"no training ended within {seconds:.0f} seconds; allow more time, or give it fewer rows")
    return SweepResult(best=min(ended, key=lambda trial: (trial.score, trial.number)), trials=ended)


def _same_search(optuna_study: Any, base: JobSpec, study: str) -> None:
    """Refuse to mix the trials of another learner or other rows into this search."""
    files = [path for path in (base.examples, base.replay, base.holdout) if path and path.is_file()]
    rows = json.dumps([[(row.text, row.label) for row in read_rows(path)] for path in files])  # not when they were read
    about = {
        "learner": base.learner.value,
        "encoder": base.encoder,
        "params": base.params,
        "rows": hashlib.sha256(rows.encode()).hexdigest()[:16],
    }
    known = optuna_study.user_attrs.get("about")
    if known is None:
        optuna_study.set_user_attr("about", about)
        return
    other = sorted(name for name in about if known.get(name) != about[name])
    if other:
        raise ConfigurationError(
            f"study {study!r} was begun with another {' and '.join(other)} ({ {n: known.get(n) for n in other} }, now "
            f"{ {n: about[n] for n in other} }); give this search a name of its own with --study, or another --out"
        )


class _Runs:
    """The trainings that go on now, each in a thread; those that still do at the end are told to stop."""

    def __init__(self, base: JobSpec, train: Train, at_once: int, until: float) -> None:
        self._base, self._train, self._until = base, train, until
        self._threads = ThreadPoolExecutor(at_once, thread_name_prefix="sweep")
        self._running: dict[Future[ModelCard | None], tuple[Any, JobSpec, Context]] = {}

    def __enter__(self) -> "_Runs":
        return self

    def __exit__(self, *raised: object) -> None:
        for _, _, context in self._running.values():
            context.cancelled = True
        self._threads.shutdown(wait=False, cancel_futures=True)

    def __len__(self) -> int:
        return len(self._running)

    def begin(self, optuna_trial: Any) -> None:
        """Begin the training of a trial."""
        params, out = self._base.params | _suggest(self._base, optuna_trial), f"trial-{optuna_trial.number}"
        spec = replace(self._base, params=params, out=self._base.out / out, cache=self._base.cache_folder)
        context = Context(until=self._until)
        self._running[self._threads.submit(_card, spec, context, self._train)] = (optuna_trial, spec, context)

    def ended(self) -> list[tuple[Any, Trial | None]]:
        """Wait for one at least; with each trial what came of it, None where it failed or its time was over."""
        trials = []
        for future in wait(self._running, return_when=FIRST_COMPLETED).done:
            optuna_trial, spec, _ = self._running.pop(future)
            card = future.result()
            trials.append((optuna_trial, None if card is None else _scored(optuna_trial, spec.params, card)))
        return trials


def _card(spec: JobSpec, context: Context, train: Train) -> ModelCard | None:
    try:
        return train(spec, context)
    except TrainingFailed as error:
        logger.warning("sweep.trial_failed", extra={"trial": spec.out.name, "error": str(error)})
    except Cancelled:
        logger.info("sweep.time_is_over", extra={"trial": spec.out.name})
    finally:
        shutil.rmtree(spec.out, ignore_errors=True)
    return None


def _scored(optuna_trial: Any, params: dict[str, Any], card: ModelCard) -> Trial:
    optuna_trial.set_user_attr("accuracy", card.metrics["holdout_accuracy"])
    optuna_trial.set_user_attr("params", params)
    score = 1.0 - card.metrics["holdout_accuracy"] + _LOSS_WEIGHT * card.metrics["holdout_log_loss"]
    return Trial(number=optuna_trial.number, params=params, score=score, accuracy=card.metrics["holdout_accuracy"])


def _trial(row: Any, base: JobSpec) -> Trial:
    params = row.user_attrs.get("params", base.params)
    return Trial(number=row.number, params=params, score=float(row.value), accuracy=row.user_attrs["accuracy"])


def _suggest(base: JobSpec, optuna_trial: Any) -> dict[str, Any]:
    """Values for what the job's own params leave open."""
    if base.learner is LearnerName.KERNEL_LDA:
        ranges: dict[str, Callable[[], Any]] = {
            "gamma": lambda: optuna_trial.suggest_float("gamma", 0.1, 2.0, log=True),
            "shrinkage": lambda: optuna_trial.suggest_float("shrinkage", 1e-7, 1e-3, log=True),
        }
    elif base.learner is LearnerName.RIDGE:
        ranges = {
            "gamma": lambda: optuna_trial.suggest_float("gamma", 0.1, 2.0, log=True),
            "shrinkage": lambda: optuna_trial.suggest_float("shrinkage", 1e-2, 10.0, log=True),
            "words": lambda: optuna_trial.suggest_float("words", 0.03, 3.0, log=True),
        }
    elif base.learner is not LearnerName.FINETUNE:
        raise ConfigurationError(
            f"a sweep searches one learner's settings; give ridge or kernel_lda, not {base.learner}"
        )
    else:
        ranges = {
            "learning_rate": lambda: optuna_trial.suggest_float("learning_rate", 2e-5, 5e-4, log=True),
            "epochs": lambda: optuna_trial.suggest_int("epochs", 1, 6),
            "strategy_settings": lambda: _strategy_settings(str(base.params.get("strategy", "replay")), optuna_trial),
        }
    open_ones = {name: suggest() for name, suggest in ranges.items() if name not in base.params}
    if not open_ones:
        raise ConfigurationError(f"params {sorted(base.params)} leave nothing to search; leave out one of {[*ranges]}")
    return open_ones


def _strategy_settings(strategy: str, optuna_trial: Any) -> dict[str, float]:
    ranges = {
        "replay": {"weight": (0.25, 4.0)},
        "der++": {"alpha": (0.01, 1.0), "beta": (0.25, 4.0)},
        "lwf": {"weight": (0.1, 10.0), "temperature": (1.0, 4.0)},
        "ewc": {"weight": (10.0, 1e5)},
    }
    return {
        name: optuna_trial.suggest_float(f"{strategy}.{name}", low, high, log=True)
        for name, (low, high) in ranges.get(strategy, {}).items()
    }


def _optuna() -> Any:
    try:
        import optuna
    except ImportError as error:
        raise DependencyUnreachable("a sweep needs Optuna; pip install 'perennial-serving[sweeps]'") from error
    return optuna
