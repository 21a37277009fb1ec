"""`policy show|replay`: what starts a retraining, what it says now, and what it would have done."""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from perennial.ops.cli.console import ConfigOption, JsonOption, ModelOption, print_json, print_table, say
from perennial.ops.cli.session import model_session

if TYPE_CHECKING:
    from perennial.continual.policy import ReplayResult, TriggerPolicy
    from perennial.ops.watching.history import Past

__all__ = ["register"]

_app = typer.Typer(help="What starts a retraining: show it, replay it over the past.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(_app, name="policy")


@_app.command()
def show(model: ModelOption = "", config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """The policy, the facts that it looks at, and what it says now."""
    from perennial.continual.policy import policy_values
    from perennial.ops.watching.trigger import Trigger

    with model_session(config, model) as (parts, model):
        trigger = Trigger(parts.ledger, parts.workspace, model)
        facts, decision = trigger.facts(), trigger.decide(datetime.now(UTC))
        cycle = parts.ledger.active_cycle(model)
        busy = not (cycle is None or cycle.on_probation)
    told = None
    if facts is not None:
        counts = {"cycles": len(facts.cycles), "in_vain": len(facts.in_vain)}
        told = {**asdict(facts), **counts, "last_cycle": facts.last_cycle_at}
    if as_json:
        now = None if decision is None else asdict(decision)
        print_json({"policy": policy_values(trigger.policy), "facts": told, "now": now, "cycle_under_way": busy})
        return
    print_json(policy_values(trigger.policy))
    if told is None:
        say(f"{model} serves no version yet")
        return
    print_table("What it looks at", ("fact", "value"), told.items())
    if decision is None:
        say("now: a cycle is under way; nothing is decided")
    else:
        held = f", held back by {'; '.join(decision.held_by)}" if decision.held_by else ""
        say(f"now: {'retrain' if decision.fire else 'wait'} ({'; '.join(decision.reasons) or 'no reason'}{held})")


@_app.command()
def replay(
    model: ModelOption = "",
    policy: Annotated[
        list[Path] | None, typer.Option(help="TOML or JSON file with a policy; may be repeated; default the one in use")
    ] = None,
    since: Annotated[datetime | None, typer.Option(help="first time, UTC; default the log's beginning")] = None,
    until: Annotated[datetime | None, typer.Option(help="last time, UTC; default now")] = None,
    change: Annotated[
        list[datetime] | None,
        typer.Option(help="when the world changed, UTC; may be repeated; default where labels begin that are new"),
    ] = None,
    training_s: Annotated[
        float | None, typer.Option(min=0, help="from a decision to the new version; default what past cycles took")
    ] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run policies over the logged past: retrainings, false ones, delays, and the accuracy they would have saved."""
    from perennial.continual.policy import replay as run_policy
    from perennial.ops.cli.progress import stages
    from perennial.ops.store.traffic_of import traffic_of
    from perennial.ops.watching.history import PastReader

    with model_session(config, model) as (parts, model):
        candidates = _policies(policy, parts.workspace.model(model).policy)
        with stages("policy replay") as on_progress:
            on_progress({"stage": "answering and comparing the past"})
            reader = PastReader(parts.ledger, parts.workspace, model, traffic_of(parts.workspace, model))
            past = reader.read(
                since=_utc(since),
                until=_utc(until),
                changes=[moment.replace(tzinfo=UTC) for moment in change or ()],
                training_s=training_s,
            )
        results = [(name, run_policy(candidate, past.history)) for name, candidate in candidates]
    if as_json:
        print_json({**_past_facts(past), "policies": [_result_facts(name, result) for name, result in results]})
        return
    _print_results(past, results)


def _policies(files: Sequence[Path] | None, in_use: Any) -> "list[tuple[str, TriggerPolicy]]":
    from perennial.continual.policy import parse_policy

    if not files:
        return [("in use", parse_policy(in_use))]
    return [(str(path), parse_policy(_read(path))) for path in files]


def _read(path: Path) -> Any:
    """The plain values of a policy file: the whole file, or its table `policy`.

    Raises:
        ConfigurationError: it cannot be read.
    """
    import json
    import tomllib

    from perennial.continual.errors import ConfigurationError

    try:
        text = path.read_text(encoding="utf-8")
        values = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except (OSError, ValueError) as exc:
        raise ConfigurationError(f"policy file {path} cannot be read: {exc}; give TOML, or JSON as .json") from exc
    return values.get("policy", values) if isinstance(values, dict) else values


def _past_facts(past: "Past") -> dict[str, Any]:
    points = past.history.points
    return {
        "from": past.history.champion_since,
        "to": points[-1].at if points else None,
        "requests": past.requests,
        "labelled": past.labelled,
        "windows": len(points),
        "windows_in_alert": sum(point.drift.value == "alert" for point in points),
        "kept_version": past.kept,
        "fresh_version": past.fresh,
        "answered_anew": past.answered_anew,
        "training_s": past.history.training_s,
        "proof_needed": past.history.proof_needed,
        "changes": list(past.history.changes),
        "changes_from": past.changes_from,
    }


def _result_facts(name: str, result: "ReplayResult") -> dict[str, Any]:
    return {
        "policy": name,
        "retrainings": [asdict(each) for each in result.retrainings],
        "false_retrainings": result.false_retrainings,
        "changes": [asdict(each) for each in result.changes],
        "held": result.held,
        "accuracy_never": result.accuracy_never,
        "accuracy_policy": result.accuracy_policy,
        "accuracy_saved": result.accuracy_saved,
    }


def _print_results(past: "Past", results: "Sequence[tuple[str, ReplayResult]]") -> None:
    facts = _past_facts(past)
    say(
        f"{past.requests} requests, {past.labelled} labelled, {len(past.history.points)} windows, as version "
        f"{past.kept} answers them; changes are {_CHANGES[past.changes_from]}"
    )
    print_table(
        f"Policies over the past, {facts['from']:%Y-%m-%d %H:%M:%S} to {facts['to']:%Y-%m-%d %H:%M:%S} UTC",
        ("policy", "retrainings", "false", "delay (requests)", "accuracy never", "accuracy policy", "saved"),
        (
            (
                name,
                len(result.retrainings),
                result.false_retrainings,
                ["missed" if each.delay_requests is None else each.delay_requests for each in result.changes],
                result.accuracy_never,
                result.accuracy_policy,
                result.accuracy_saved,
            )
            for name, result in results
        ),
    )
    for name, result in results:
        rows = ((each.at, each.request, "yes" if each.false else "no", each.reasons) for each in result.retrainings)
        print_table(f"Retrainings by {name}", ("at", "request", "false", "reasons"), rows)
        if result.held:
            limits = ", ".join(f"{limit} at {count}" for limit, count in sorted(result.held.items()))
            say(f"{name} had a reason and was held back by {limits} of {len(past.history.points)} windows")
    if past.fresh is None:
        say("no later version answers now, so what a retraining is worth cannot be told")


_CHANGES = {
    "given": "as given",
    "labels": "where labels begin that this version does not know",
    "nothing": "not known, so every retraining counts as false (give --change)",
}


def _utc(moment: datetime | None) -> datetime | None:
    return None if moment is None else moment.replace(tzinfo=UTC)
