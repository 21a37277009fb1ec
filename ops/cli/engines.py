"""`export`, `engine list|verify|compare`."""

from pathlib import Path
from typing import Annotated

import typer

from perennial.ops.cli.actor import actor
from perennial.ops.cli.console import (
    ConfigOption,
    DryRunOption,
    JsonOption,
    ModelOption,
    print_json,
    print_records,
    print_table,
    say,
)
from perennial.ops.cli.session import model_session

__all__ = ["register"]

_app = typer.Typer(help="Engines: list, verify, compare.", no_args_is_help=True)
_MAX_LOSS = 0.5  # points


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(export)
    app.add_typer(_app, name="engine")


def export(
    version: Annotated[int, typer.Argument(min=1, help="the version whose model is compiled anew")],
    engine: Annotated[str, typer.Option(help="auto, onnxruntime, openvino, tensorrt or aotinductor")] = "auto",
    precision: Annotated[str, typer.Option(help="auto, fp32, tf32, bf16, fp16, fp8 or int8")] = "auto",
    compress: Annotated[
        bool, typer.Option("--compress", help="make it smaller first: fewer words, layers and neurons, then INT8")
    ] = False,
    max_loss: Annotated[
        float | None,
        typer.Option(min=0, max=100, help="points of held-out accuracy that a smaller one may lose; default 0.5"),
    ] = None,
    model: ModelOption = "",
    dry_run: DryRunOption = False,
    config: ConfigOption = None,
) -> None:
    """Compile a version into another engine or precision, prove it, and publish it as a new version.

    With --compress it is taught to smaller models in steps. A table tells size, speed and accuracy of each, and the
    fastest that keeps --max-loss and passes the gate is published.
    The parity gate compares it with the FP32 torch model on held-out rows. A refusal ends with exit code 4 and
    publishes nothing. The new version is not loaded; promote it when you want it to answer.
    """
    from perennial.continual.errors import ConfigurationError
    from perennial.ops.cli.progress import stages
    from perennial.ops.commands.engines import export_version, plan_export

    if compress:
        most = _MAX_LOSS if max_loss is None else max_loss
        _compress(version, engine, precision, most, model, config, dry_run=dry_run)
        return
    if max_loss is not None:
        raise ConfigurationError(
            f"--max-loss {max_loss:g} bounds what a smaller model loses, and without --compress none is made; add "
            "--compress, or leave it out"
        )
    with model_session(config, model) as (parts, model):
        plan = plan_export(parts, model, version, engine, precision)
        facts = {
            "model": model,
            "source": version,
            "engine": plan.engine.value,
            "precision": plan.precision.value,
            "parity_rows": plan.rows,
        }
        if dry_run:
            print_json(facts)
            return
        with stages(f"version {version} as {plan.engine.value} {plan.precision.value}") as on_progress:
            published = export_version(parts, plan, actor=actor(), on_progress=on_progress).made
        bundle = parts.workspace.bundle(model, published or 0)
    say(f"version {published} is published and not loaded; next: perennial model promote {published} --model {model}")
    print_json({**facts, "version": published, "bundle": str(bundle)})


def _compress(
    version: int, engine: str, precision: str, max_loss: float, model: str, config: Path | None, *, dry_run: bool
) -> None:
    """Print the table on stderr, the whole of it as JSON."""
    from perennial.continual.errors import Refused
    from perennial.ops.cli.progress import stages
    from perennial.ops.commands.compression import compress_version, plan_compression

    with model_session(config, model) as (parts, model):
        plan = plan_compression(parts, model, version, engine, precision, most_lost_points=max_loss)
        if dry_run:
            print_json(plan)
            return
        with stages(f"version {version} made smaller") as on_progress:
            made = compress_version(parts, plan, actor=actor(), on_progress=on_progress)
    for point in made.points:
        lost = "" if point.lost_points is None else f", {point.lost_points.mean:+.2f} points lost"
        faster = "" if point.times_faster is None else f", {point.times_faster:g} times as fast"
        say(f"{point.step}: {point.engine}, {point.megabytes:g} MB{faster}{lost}; {point.verdict}")
    print_json(made)
    if made.version is None:
        raise Refused(
            f"no smaller model of version {version} is faster, loses at most {max_loss:g} points and passes the gate"
        )
    say(f"version {made.version} is published and not loaded; next: perennial model promote {made.version}")


@_app.command("list")
def list_engines(model: ModelOption = "", config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """The engine of every version, and the engines that this machine can build."""
    from perennial.ops.commands.engine_checks import buildable
    from perennial.ops.commands.engines import engine_facts

    with model_session(config, model) as (parts, model):
        rows = engine_facts(parts, model)
    here = buildable()
    if as_json:
        print_json({"versions": rows, "buildable": here})
        return
    columns = (
        "version",
        "engine",
        "precision",
        "megabytes",
        "agreement",
        "max_abs_logit",
        "accuracy",
        "rows_per_s",
        "created_at",
    )
    print_records(f"Engines of {model}", columns, rows)
    print_table("On this machine", ("engine", "precisions", "why not"), ((r.engine, r.precisions, r.why) for r in here))


@_app.command("choose")
def choose(
    promote: Annotated[bool, typer.Option("--promote", help="have the faster one answer")] = False,
    compiled: Annotated[
        bool, typer.Option("--compiled", help="try AOTInductor too; needs a C++ compiler and half a minute")
    ] = False,
    model: ModelOption = "",
    dry_run: DryRunOption = False,
    config: ConfigOption = None,
) -> None:
    """Build the engines that may be faster here than the champion's, prove and time them; publish one that is.

    They take turns on the model's held-out rows, in batches of 1, 8 and 32. A faster one has at least 1.1 times the
    champion's speed over all three. Later versions are built as the same engine, as long as the processor is the same.
    """
    from perennial.ops.cli.progress import stages
    from perennial.ops.commands.engine_choice import choose_engine_of, engines_beside

    with model_session(config, model) as (parts, model):
        if dry_run:
            kinds = engines_beside(parts, model, compiled=compiled)
            print_json({"model": model, "would_try": [f"{kind.value} {form.value}" for kind, form in kinds]})
            return
        with stages("engines beside the champion's") as on_progress:
            choice = choose_engine_of(
                parts, model, actor=actor(), promote=promote, compiled=compiled, on_progress=on_progress
            )
    if choice.version is None:
        say(f"version {choice.champion} stays as it is: nothing is faster here than {choice.engine}")
    elif not choice.promoted:
        say(f"version {choice.version} is published and not loaded; next: perennial model promote {choice.version}")
    print_json(choice)


_Parity = Annotated[bool, typer.Option("--parity", help="also compare it with its torch model on held-out rows")]


@_app.command()
def verify(
    version: Annotated[int, typer.Argument(min=1)],
    parity: _Parity = False,
    model: ModelOption = "",
    config: ConfigOption = None,
) -> None:
    """Check a version's files, open its engine and have it repeat its golden answers; exit code 4 when it does not."""
    from perennial.ops.commands.engine_checks import verify_engine

    with model_session(config, model) as (parts, model):
        print_json(verify_engine(parts, model, version, parity=parity))


@_app.command()
def compare(
    versions: Annotated[list[int], typer.Argument(min=1, help="the first one is what the others are compared with")],
    texts: Annotated[Path | None, typer.Option(help="texts (JSON or parquet); default the held-out rows")] = None,
    rounds: Annotated[int, typer.Option(min=1, max=50, help="timed passes of each")] = 3,
    model: ModelOption = "",
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Speed and answers of versions side by side, on the same texts, taking turns."""
    from perennial.ops.commands.engine_checks import compare_engines

    with model_session(config, model) as (parts, model):
        rows = compare_engines(parts, model, versions, texts=texts, rounds=rounds)
    if as_json:
        print_json(rows)
        return
    columns = (
        "version",
        "engine",
        "precision",
        "rows_per_s",
        "p50_ms_batch1",
        "accuracy",
        "agreement",
        "max_abs_logit",
    )
    print_records(f"Versions of {model} side by side", columns, rows)
