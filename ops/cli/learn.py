"""`learn run|sweep`: training and comparing models from a file, beside any workspace; `learn describe` is beside it."""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from perennial.continual.learning.names import AUTO_ENCODER, DEFAULT_LEARNER, LEARNERS_OF, LearnerName
from perennial.continual.tasks import DEFAULT_TASK
from perennial.ops.cli import describe
from perennial.ops.cli.console import JsonOption, print_json, print_records, print_table, say
from perennial.ops.cli.file_options import (
    KINDS,
    ColumnOption,
    DelimiterOption,
    EncodingOption,
    SheetOption,
    file_reading,
)

__all__ = ["register"]

_app = typer.Typer(
    help="Train, compare and tune learners offline; begin a class with a description.", no_args_is_help=True
)

_CLOSED_FORMS = [name.value for name in LEARNERS_OF[DEFAULT_TASK] if name is not LearnerName.FINETUNE]
_CHOICES = f"{', '.join(_CLOSED_FORMS)} or a strategy of fine-tuning"
_Data = Annotated[Path, typer.Option(help=f"rows to learn, with text and label; {KINDS}")]
_Encoder = Annotated[
    str, typer.Option(help="a name or folder; auto: that of --previous, or the packaged one that reads the rows")
]
_Out = Annotated[Path, typer.Option(help="where models and their work files go")]
_Params = Annotated[str, typer.Option(help="settings of the learner as JSON, e.g. '{\"epochs\": 2}'")]
_Share = Annotated[float, typer.Option(min=0.02, max=0.5, help="share of the rows held out, by a hash of the text")]
_Seed = Annotated[int, typer.Option(help="of every random choice")]
_Previous = Annotated[Path | None, typer.Option(help="trained folder or bundle to learn on from")]
_Replay = Annotated[Path | None, typer.Option(help="file of old rows to rehearse")]
_Learner = Annotated[str, typer.Option(help=_CHOICES)]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    describe.register(_app)
    app.add_typer(_app, name="learn")


@_app.command()
def run(
    data: _Data,
    learner: Annotated[list[str] | None, typer.Option(help=f"{_CHOICES}; repeatable")] = None,
    test: Annotated[Path | None, typer.Option(help="file to compare on; default the held-out rows")] = None,
    encoder: _Encoder = AUTO_ENCODER,
    previous: _Previous = None,
    replay: _Replay = None,
    params: _Params = "{}",
    holdout_share: _Share = 0.1,
    seed: _Seed = 0,
    out: _Out = Path("learn"),
    column: ColumnOption = None,
    encoding: EncodingOption = None,
    delimiter: DelimiterOption = None,
    sheet: SheetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train one model for each --learner and compare them: the first with every other, paired by row.

    Strategies of fine-tuning: naive, replay, der++, lwf, ewc, cumulative. Repeated after a kill it goes on.
    """
    from perennial.ops.cli.progress import stages
    from perennial.ops.commands.offline import Offline, compare

    runs = []
    names = learner or [DEFAULT_LEARNER.value]
    reading = file_reading(column, encoding, delimiter, sheet)
    task = Offline.prepare(data, out, test=test, replay=replay, holdout_share=holdout_share, seed=seed, reading=reading)
    for name in names:
        with stages(f"learning with {name}") as on_progress:
            runs.append(
                task.train(name, _settings(params), encoder=encoder, previous=previous, on_progress=on_progress)
            )
    results = compare(runs, seed=seed)
    if as_json:
        first = asdict(results[0])
        del first["gain"]  # what the others' gain is over
        print_json([first, *results[1:]])
        return
    columns = ("learner", "accuracy", "macro_f1", "log_loss", "calibration_error", "worst_class", "seconds", "gain")
    print_records(f"{task.judged_on} rows to compare on", columns, results)
    say(f"models are in {out}; export one with `perennial engine build`, or let `perennial serve` learn by itself")


@_app.command()
def sweep(
    data: _Data,
    learner: _Learner = LearnerName.RIDGE.value,
    trials: Annotated[
        int, typer.Option(min=1, max=10_000, help="finished trials in the end, earlier ones included")
    ] = 20,
    minutes: Annotated[
        float | None, typer.Option(min=0.01, help="of time at most; what has finished by then decides")
    ] = None,
    study: Annotated[str, typer.Option(help="name of the search; the same name goes on with it")] = "sweep",
    encoder: _Encoder = AUTO_ENCODER,
    previous: _Previous = None,
    replay: _Replay = None,
    params: _Params = "{}",
    holdout_share: _Share = 0.1,
    seed: _Seed = 0,
    out: _Out = Path("learn"),
    at_once: Annotated[int, typer.Option(min=1, max=1_000, help="trainings that go on beside each other")] = 1,
    ray: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="Ray cluster that trains; OUT lies where its workers see it")
    ] = None,
    column: ColumnOption = None,
    encoding: EncodingOption = None,
    delimiter: DelimiterOption = None,
    sheet: SheetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Search a learner's settings on held-out rows; every trial is kept in OUT/sweep.db, so that a kill costs one."""
    from perennial.continual.jobs.ray_cluster import RayCluster
    from perennial.continual.learning.learners import train_model
    from perennial.continual.learning.sweep import sweep as search
    from perennial.continual.learning.trainings import TrainingJobs
    from perennial.ops.commands.offline import Offline

    reading = file_reading(column, encoding, delimiter, sheet)
    task = Offline.prepare(data, out, test=None, replay=replay, holdout_share=holdout_share, seed=seed, reading=reading)
    base = task.spec(learner, _settings(params), encoder=encoder, previous=previous)

    def show_trial(trial: Any) -> None:
        say(f"trial {trial.number}: accuracy {trial.accuracy:.4f}, score {trial.score:.4f}, {json.dumps(trial.params)}")

    seconds = math.inf if minutes is None else 60 * minutes
    jobs = TrainingJobs(cluster=None if ray is None else RayCluster(address=ray))
    result = search(
        base,
        trials=trials,
        seconds=seconds,
        storage=out / "sweep.db",
        study=study,
        on_trial=show_trial,
        train=train_model if ray is None and at_once == 1 else jobs,
        at_once=at_once,
    )
    if as_json:
        print_json({"best": result.best, "trials": result.trials})
        return
    ranked: Sequence[Any] = sorted(result.trials, key=lambda trial: trial.score)[:10]
    print_table(
        f"{len(result.trials)} trials of {learner}, best first",
        ("trial", "score", "accuracy", "params"),
        ((t.number, t.score, t.accuracy, json.dumps(t.params)) for t in ranked),
    )
    say(f"use them: [models.NAME.learning] params = {json.dumps(result.best.params)}")


def _settings(params: str) -> dict[str, Any]:
    from perennial.continual.errors import ConfigurationError

    try:
        parsed = json.loads(params)
    except ValueError as error:
        raise ConfigurationError(f"--params {params!r} is not JSON ({error}); give an object") from error
    if not isinstance(parsed, dict):
        raise ConfigurationError(f"--params is {type(parsed).__name__}; give an object such as {{}}")
    return parsed
