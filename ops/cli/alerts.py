"""`alerts list|show|confirm|dismiss|reopen|events|calibrate`: what the watch of headlines found."""

from typing import TYPE_CHECKING, Annotated

import typer

from perennial.ops.cli.console import (
    ConfigOption,
    DryRunOption,
    JsonOption,
    ModelOption,
    print_json,
    print_records,
    say,
)
from perennial.ops.cli.session import model_session

if TYPE_CHECKING:
    from perennial.ops.store.alerts import AlertState

__all__ = ["register"]

_app = typer.Typer(help="Events among headlines, and the alerts that they raise.", no_args_is_help=True)
_Number = Annotated[int, typer.Argument(help="the alert's number")]
_Note = Annotated[str, typer.Option(max=500, help="why, in your words")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(_app, name="alerts")


@_app.command("list")
def list_alerts(
    model: ModelOption = "",
    state: Annotated[str, typer.Option(help="open, confirmed or dismissed; default all")] = "",
    limit: Annotated[int, typer.Option(min=1, max=1_000)] = 20,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """The latest alerts, each with the reason in a sentence."""
    from perennial.ops.commands.event_watch import latest_alerts
    from perennial.ops.views.alerts import alert_view

    with model_session(config, model) as (parts, model):
        wanted = _state(state) if state else None
        views = [alert_view(one) for one in latest_alerts(parts.workspace, model, state=wanted, last=limit)]
    if as_json:
        print_json(views)
        return
    print_records(f"Alerts of {model}", ("number", "state", "at", "hint"), views)


@_app.command()
def show(number: _Number, model: ModelOption = "", config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """One alert with the headlines that speak for it."""
    from perennial.continual.events.hints import evidence_lines
    from perennial.ops.commands.event_watch import one_alert
    from perennial.ops.views.alerts import alert_view

    with model_session(config, model) as (parts, model):
        view = alert_view(one_alert(parts.workspace, model, number))
    if as_json:
        print_json(view)
        return
    say(f"alert {view.number} of {model}, {view.state}: {view.hint}")
    for line in evidence_lines([(one.at, one.source, one.text) for one in view.evidence]):
        say(f"  {line}")


@_app.command()
def confirm(
    number: _Number,
    note: _Note = "",
    model: ModelOption = "",
    dry_run: DryRunOption = False,
    config: ConfigOption = None,
) -> None:
    """It was worth an alert; later risks are scored by that."""
    _judge(number, "confirmed", note, model, config, dry_run=dry_run)


@_app.command()
def dismiss(
    number: _Number,
    note: _Note = "",
    model: ModelOption = "",
    dry_run: DryRunOption = False,
    config: ConfigOption = None,
) -> None:
    """It was not; later risks are scored by that, and its event alarms no more."""
    _judge(number, "dismissed", note, model, config, dry_run=dry_run)


@_app.command()
def reopen(
    number: _Number,
    note: _Note = "",
    model: ModelOption = "",
    dry_run: DryRunOption = False,
    config: ConfigOption = None,
) -> None:
    """Take a verdict back, as if it had never been given."""
    _judge(number, "open", note, model, config, dry_run=dry_run)


@_app.command()
def events(
    model: ModelOption = "",
    limit: Annotated[int, typer.Option(min=1, max=1_000)] = 20,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """The latest events, alarming or not, with their phase."""
    from perennial.ops.commands.event_watch import latest_events
    from perennial.ops.views.alerts import event_view

    with model_session(config, model) as (parts, model):
        views = [event_view(row) for row in latest_events(parts.workspace, model, last=limit)]
    if as_json:
        print_json(views)
        return
    print_records(f"Events of {model}", ("event", "phase", "opened_at", "headlines", "words"), views)


@_app.command()
def calibrate(model: ModelOption = "", dry_run: DryRunOption = False, config: ConfigOption = None) -> None:
    """Find the limit of an event anew by shuffles of the latest headlines; a running service does so each day."""
    from perennial.ops.commands.event_watch import calibrate_limit

    with model_session(config, model) as (parts, model):
        budget = parts.workspace.model(model).events.false_alerts_per_day
        print_json(calibrate_limit(parts.workspace, model, false_alerts_per_day=budget, dry_run=dry_run))


def _judge(number: int, state: str, note: str, model: str, config: ConfigOption, *, dry_run: bool) -> None:
    from perennial.ops.cli.actor import actor
    from perennial.ops.commands.event_watch import judge_alert
    from perennial.ops.views.alerts import alert_view

    with model_session(config, model) as (parts, model):
        judged = judge_alert(
            parts.ledger, parts.workspace, model, number, _state(state), actor=actor(), note=note, dry_run=dry_run
        )
    print_json(alert_view(judged))


def _state(name: str) -> "AlertState":
    from perennial.continual.errors import ConfigurationError
    from perennial.ops.store.alerts import AlertState

    try:
        return AlertState(name)
    except ValueError:
        raise ConfigurationError(f"an alert is never {name!r}; use one of {', '.join(AlertState)}") from None
