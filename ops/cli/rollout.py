"""`rollout show|approve|abort|promote|pause|resume`, `shadow report`."""

import json
import threading
import time
from dataclasses import asdict
from typing import Annotated, Any

import typer

from perennial.ops.cli.actor import actor
from perennial.ops.cli.console import (
    ConfigOption,
    DryRunOption,
    JsonOption,
    ModelOption,
    known_facts,
    print_json,
    print_table,
    say,
)
from perennial.ops.cli.session import model_session

__all__ = ["register"]

_app = typer.Typer(
    help="The challenger on its way: show, approve, abort, promote, pause, resume.", no_args_is_help=True
)
_shadow = typer.Typer(help="A challenger on logged traffic.", no_args_is_help=True)
_Cycle = Annotated[
    int | None, typer.Option(help="the cycle that you have seen; nothing is done where another one is under way")
]
_Wait = Annotated[float, typer.Option(min=0, help="seconds to wait for the loop to act on it")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(_app, name="rollout")
    app.add_typer(_shadow, name="shadow")


@_app.command()
def show(model: ModelOption = "", config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Where the cycle stands, its story, and the figures of the canary or the probation."""
    from perennial.ops.views.rollout import rollout_view

    with model_session(config, model, may_be_broken=True) as (parts, model):
        seen = rollout_view(parts.ledger, model)
    if as_json:
        print_json(seen)
        return
    route, cycle = seen.route, seen.cycle
    print_table(
        f"Route of {model}",
        ("champion", "previous", "challenger", "share", "resident", "epoch"),
        []
        if route is None
        else [[getattr(route, name) for name in ("champion", "previous", "challenger", "share", "resident", "epoch")]],
    )
    if cycle is None:
        say(f"{model} has had no cycle yet")
        return
    under_way = "under way" if cycle.closed_at is None else f"ended: {cycle.note}"
    print_table(
        f"Cycle {cycle.id}, {'paused, ' if seen.paused else ''}{under_way}",
        ("step", "what happened"),
        enumerate(cycle.story, start=1),
    )
    if (waits := seen.waits) is not None:
        print_table(f"Tried again since {waits.since}", ("step", "why"), [(waits.step, waits.error)])
    if seen.power is not None:
        say(seen.power.sentence)
    if (beside := seen.probation) is not None:
        say(f"beside it version {beside.champion} is on probation against {beside.previous} until {beside.until}")
    for live in (seen.live, seen.probation_live):
        if live is None:
            continue
        print_table(
            f"{live.phase} of version {live.challenger} against {live.champion}: {live.verdict}",
            ("figure", "value"),
            [item for item in asdict(live).items() if item[0] not in {"phase", "challenger", "champion", "verdict"}],
        )


@_app.command()
def approve(
    model: ModelOption = "",
    cycle: _Cycle = None,
    dry_run: DryRunOption = False,
    wait: _Wait = 10.0,
    config: ConfigOption = None,
) -> None:
    """Let a challenger that waits for an operator go on."""
    _command("approve", model, dry_run, wait, config, cycle)


@_app.command()
def abort(
    model: ModelOption = "",
    cycle: _Cycle = None,
    dry_run: DryRunOption = False,
    wait: _Wait = 30.0,
    config: ConfigOption = None,
) -> None:
    """End the cycle under way; the champion goes on serving. In probation this rolls back."""
    _command("abort", model, dry_run, wait, config, cycle)


@_app.command()
def promote(
    model: ModelOption = "",
    cycle: _Cycle = None,
    dry_run: DryRunOption = False,
    wait: _Wait = 10.0,
    config: ConfigOption = None,
) -> None:
    """Send the loaded challenger straight to the championship."""
    _command("promote", model, dry_run, wait, config, cycle)


@_app.command()
def pause(
    model: ModelOption = "", dry_run: DryRunOption = False, wait: _Wait = 10.0, config: ConfigOption = None
) -> None:
    """Hold the cycle after its present step, until `resume`."""
    _command("pause", model, dry_run, wait, config)


@_app.command()
def resume(
    model: ModelOption = "", dry_run: DryRunOption = False, wait: _Wait = 10.0, config: ConfigOption = None
) -> None:
    """Let a paused cycle go on."""
    _command("resume", model, dry_run, wait, config)


def _command(kind: str, model: str, dry_run: bool, wait_s: float, config: Any, cycle: int | None = None) -> None:
    from perennial.continual.errors import Refused
    from perennial.ops.commands.rollout import check_under_way, expected_effect, request_command

    with model_session(config, model) as (parts, model):
        if dry_run:
            check_under_way(parts.ledger, model, kind, cycle)
            print_json(known_facts(expected_effect(parts.ledger, model, kind)))
            return
        request = request_command(parts.ledger, model, kind, actor(), cycle=cycle)
        number = int(request.command or 0)
        deadline = time.monotonic() + wait_s
        while (row := parts.ledger.command(number)).outcome is None and time.monotonic() < deadline:
            time.sleep(0.1)
    if row.outcome is None:
        say("the loop has not taken it yet; it will when it can (is `perennial serve` running?)")
    elif row.outcome.startswith("refused"):
        raise Refused(f"{kind}: {row.outcome.removeprefix('refused: ')}")
    print_json({"command": number, "kind": kind, "outcome": row.outcome, "then": request.then})


@_shadow.command()
def report(
    version: Annotated[int | None, typer.Argument(help="default the newest version that was shadowed")] = None,
    replay: Annotated[
        bool, typer.Option("--replay", help="replay the newest traffic now, against the champion")
    ] = False,
    rows: Annotated[int, typer.Option(min=50, max=100_000, help="newest requests to replay")] = 500,
    model: ModelOption = "",
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """How a challenger answered logged traffic beside the champion: disagreement, confidence, latency, quality."""
    with model_session(config, model) as (parts, model):
        report = _replayed(parts, model, version, rows) if replay else _kept(parts, model, version)
    if as_json:
        print_json(report)
        return
    figures = {name: value for name, value in report.items() if name != "disagreements"}
    print_table(
        "Shadow, challenger minus champion", ("figure", "value"), ((k, _interval(v)) for k, v in figures.items())
    )
    print_table(
        "Texts on which they disagree",
        ("text", "champion", "challenger", "label"),
        ((row["text"][:80], row["champion"], row["challenger"], row["label"]) for row in report["disagreements"]),
    )


def _kept(parts: Any, model: str, version: int | None) -> dict[str, Any]:
    from perennial.continual.errors import NotFound

    versions = [row.version for row in parts.ledger.versions(model)] if version is None else [version]
    paths = [parts.workspace.run(model, number) / "shadow.report.json" for number in sorted(versions, reverse=True)]
    path = next((path for path in paths if path.is_file()), None)
    if path is None:
        which = "no version" if version is None else f"version {version}"
        raise NotFound(f"{which} of {model} has a shadow report; make one with `perennial shadow report N --replay`")
    report: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return {"version": int(path.parent.name), **report}


def _replayed(parts: Any, model: str, version: int | None, rows: int) -> dict[str, Any]:
    from perennial.continual.errors import InputError, NotFound
    from perennial.ops.cli.progress import stages
    from perennial.ops.comparing.comparison import replay_shadow
    from perennial.ops.store.traffic_of import traffic_of

    route = parts.ledger.route(model)
    if route is None or version is None or version == route.champion:
        raise InputError("name a version that is not the champion, for example: perennial shadow report 3 --replay")
    if not parts.workspace.bundle(model, version).is_dir():
        on_disk = parts.repository.versions(parts.workspace.engine_model(model))
        raise NotFound(f"{model} has no bundle of version {version}; on disk are {list(on_disk)}")
    with stages("shadow") as on_progress:
        on_progress({"stage": f"replaying {rows} requests"})
        return replay_shadow(
            parts.ledger,
            parts.workspace,
            model,
            traffic_of(parts.workspace, model),
            champion=route.champion,
            challenger=version,
            rows=rows,
            cancel=threading.Event(),
        )


def _interval(value: Any) -> Any:
    if isinstance(value, dict) and {"mean", "low", "high"} <= set(value):
        return f"{value['mean']:.4g}  (95%: {value['low']:.4g} to {value['high']:.4g})"
    if isinstance(value, dict):
        return ", ".join(f"{name} {part:.4g}" for name, part in value.items() if part is not None)
    return value
