"""`drift watch|report|explain`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from perennial.ops.cli.console import ConfigOption, JsonOption, ModelOption, print_json, print_table, say
from perennial.ops.cli.session import model_session

__all__ = ["register"]

_app = typer.Typer(help="What the traffic says.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(_app, name="drift")


@_app.command()
def watch(
    model: ModelOption = "",
    limit: Annotated[int, typer.Option(min=1, max=1000, help="newest windows")] = 20,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """The newest windows and their verdicts."""
    from perennial.ops.views.drift import drift_report

    with model_session(config, model) as (parts, model):
        reports = [drift_report(row) for row in parts.ledger.drift_reports(model, limit)]
    if as_json:
        print_json(reports)
        return
    print_table(
        f"Windows of {model}, newest first",
        ("report", "at", "version", "rows", "state", "drifted signals"),
        ((r.id, r.at, r.version, r.rows, r.state, r.signal and r.signal.signals) for r in reports),
    )


@_app.command()
def report(
    model: ModelOption = "",
    rows: Annotated[int, typer.Option(min=50, max=100_000, help="newest requests to compare")] = 300,
    out: Annotated[Path, typer.Option(help="where the HTML goes")] = Path("drift.html"),
    config: ConfigOption = None,
) -> None:
    """Compare the newest requests with the champion's reference now, as an Evidently report."""
    from perennial.ops.cli.progress import stages

    with model_session(config, model) as (parts, model), stages("drift report") as on_progress:
        on_progress({"stage": "comparing and drawing"})
        report = _report(parts, model, rows, out)
    say(f"open {out}, or all reports: evidently ui --workspace {parts.workspace.evidently}")
    print_json(report)


@_app.command()
def explain(
    model: ModelOption = "",
    report: Annotated[int | None, typer.Option(help="which window; default the newest that drifted")] = None,
    most: Annotated[int, typer.Option(min=1, max=50, help="entries of each kind")] = 5,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """What drifted: signals by strength, strange texts, possible new classes, words that rose and fell, slices."""
    from perennial.ops.store.traffic_of import traffic_of
    from perennial.ops.watching.mixes import mix_history
    from perennial.ops.watching.trigger import Trigger
    from perennial.ops.watching.windows import chosen_report, explained

    with model_session(config, model) as (parts, model):
        row = chosen_report(parts.ledger, model, report)
        explanation = explained(parts.ledger, parts.workspace, traffic_of(parts.workspace, model), row, most=most)
        mix = mix_history(parts.ledger, row)
        learning = Trigger(parts.ledger, parts.workspace, model).opening()
    facts = {"report": row.id, "version": row.version, "at": row.at, "rows": row.rows, "state": row.state}
    if as_json:
        print_json(
            {**facts, **explanation.to_json(), "mix": mix.to_json(), "learning": learning and learning.to_json()}
        )
        return
    say(
        f"report {row.id} of {row.at:%Y-%m-%d %H:%M:%S} UTC, version {row.version}, state {row.state}: "
        f"{explanation.summary}; {mix.sentence}"
    )
    _print_explanation(explanation)
    if learning is not None:
        say(f"would a retraining be worth it? {learning.sentence}")


def _print_explanation(explanation: Any) -> None:
    print_table(
        "Signals, strongest first",
        ("signal", "adjusted p", "effect / floor"),
        ((name.value, p, effect) for name, p, effect in explanation.signals),
    )
    for outcome in explanation.outcomes:
        say(outcome.sentence)
    print_table(
        "Groups of texts that the reference does not know: perhaps new classes",
        ("suggested name", "rows", "share", "confidence", "answered as", "for example"),
        ((g.name, g.rows, g.share, g.mean_confidence, g.answered_as, g.texts[0]) for g in explanation.groups),
    )
    print_table(
        "Words that rose and fell",
        ("word", "share before", "share now", "z"),
        ((w.word, w.reference_share, w.current_share, w.z) for w in (*explanation.rose, *explanation.fell)),
    )
    print_table(
        "Slices by answer, the one whose share moved most first",
        ("label", "share before", "share now", "confidence change"),
        ((s.label, s.reference_share, s.current_share, s.confidence_change) for s in explanation.slices),
    )
    print_table("Texts farthest from the reference", ("text",), ((text,) for text in explanation.texts))


def _report(parts: Any, model: str, rows: int, out: Path) -> dict[str, Any]:
    import numpy as np

    from perennial.continual.drift.compare import compare
    from perennial.continual.drift.evidently_report import build_report
    from perennial.continual.drift.reference import ReferenceProfile
    from perennial.continual.errors import DataError, NotFound
    from perennial.ops.store.traffic_of import traffic_of
    from perennial.ops.watching.watcher import drift_settings
    from perennial.ops.watching.windows import window_of

    route = parts.ledger.route(model)
    if route is None:
        raise NotFound(f"model {model} serves no version yet; train one with `perennial init {model} --data FILE`")
    folder = parts.workspace.reference(model, route.champion)
    if not folder.is_dir():
        needed = parts.workspace.model(model).drift.reference_rows
        raise DataError(f"version {route.champion} has no reference yet; it is taken from its first {needed} requests")
    traffic = traffic_of(parts.workspace, model)
    window = window_of(traffic.read(version=route.champion, last=rows), traffic.task)
    reference = ReferenceProfile.load(folder)
    comparison = compare(
        reference, window, drift_settings(parts.workspace, model), np.random.default_rng(parts.settings.seed)
    )
    paths = build_report(
        reference,
        window,
        comparison,
        out,
        parts.workspace.evidently,
        {"model": model, "version": str(route.champion)},
        parts.workspace.model(model).drift.report_timeout_s,
    )
    return {
        "drifted": comparison.drifted,
        "signals": [s.value for s in comparison.drifted_signals],
        "rows": len(window),
        "html": str(paths.html),
        "json": str(paths.json),
    }
