"""`schedule list|run|pause|resume`: the loop's jobs, whichever process leads them."""

import time
from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from perennial.ops.cli.actor import actor
from perennial.ops.cli.console import ConfigOption, DryRunOption, JsonOption, print_json, print_table, say
from perennial.ops.cli.session import session

if TYPE_CHECKING:
    from perennial.ops.views.schedule import RunView

__all__ = ["register"]

_app = typer.Typer(help="The loop's jobs: list, run, pause, resume.", no_args_is_help=True)
_POLL_S = 0.1

_Job = Annotated[str, typer.Argument(help="a job's name, e.g. watch:intent; see `schedule list`")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(_app, name="schedule")


@_app.command("list")
def list_jobs(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Every job: its times, when it is due, and how its last run ended."""
    from perennial.ops.views.schedule import job_view

    with session(config) as parts:
        jobs = [job_view(parts.ledger, row) for row in parts.ledger.jobs()]
        lease = parts.ledger.lease("loop")
    if as_json:
        print_json(jobs)
        return
    if not jobs:
        say("no jobs yet: the first `perennial serve` writes them down")
        return
    if lease is not None:
        say(f"led last by {lease[1]}, epoch {lease[0]}")
    print_table(
        "Jobs",
        ("job", "times", "next due", "paused", "last slot", "took ms", "outcome", "note"),
        ((j.job, _times(j.trigger), j.next_due, _yes(j.paused), *_last(j.last_run)) for j in jobs),
    )


@_app.command()
def run(
    job: _Job,
    wait_s: Annotated[float, typer.Option(min=0, help="wait so long for the run's end; 0 only asks for it")] = 30.0,
    dry_run: DryRunOption = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Have the leader run a job now, paused or not, and wait for its end."""
    from perennial.ops.commands.schedule import known_job, request_job

    with session(config) as parts:
        row = known_job(parts.ledger, job)
        if dry_run:
            _show({"job": job, "would": "run once, at the leader's next beat", "paused": row.paused}, as_json=as_json)
            return
        known = {each.id for each in parts.ledger.job_runs(job, 20)}
        request_job(parts.ledger, job, actor=actor())
        outcome = {"job": job, "requested": True} if wait_s == 0 else _wait(parts.ledger, job, known, wait_s)
    _show(outcome, as_json=as_json)
    if outcome.get("outcome") not in {None, "done"}:
        raise typer.Exit(1)


@_app.command()
def pause(job: _Job, dry_run: DryRunOption = False, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Start a job no more at its times; a run under way ends as it would."""
    _set_paused(job, config, paused=True, dry_run=dry_run, as_json=as_json)


@_app.command()
def resume(job: _Job, dry_run: DryRunOption = False, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Let a paused job start again; the times that passed meanwhile count as one."""
    _set_paused(job, config, paused=False, dry_run=dry_run, as_json=as_json)


def _set_paused(job: str, config: Any, *, paused: bool, dry_run: bool, as_json: bool) -> None:
    from perennial.ops.commands.schedule import known_job, pause_job

    with session(config) as parts:
        before = known_job(parts.ledger, job)
        if not dry_run:
            pause_job(parts.ledger, job, paused=paused, actor=actor())
    change = {"job": job, "paused": paused, "changed": before.paused is not paused, "next_due": before.next_due}
    _show(change | ({"dry_run": True} if dry_run else {}), as_json=as_json)


def _wait(ledger: Any, job: str, known: set[int], wait_s: float) -> dict[str, Any]:
    """Wait for a run that is not among the known ones to end.

    Raises:
        DependencyUnreachable: nobody ran it in time.
    """
    from perennial.continual.errors import DependencyUnreachable
    from perennial.ops.commands.schedule import known_job
    from perennial.ops.views.schedule import RunView

    deadline = time.monotonic() + wait_s
    while time.monotonic() < deadline:
        waits = known_job(ledger, job).requested_at is not None
        fresh = [row for row in ledger.job_runs(job, 20) if row.id not in known]
        if not waits and fresh and all(row.finished_at is not None for row in fresh):
            return {"job": job, **asdict(RunView.of(max(fresh, key=lambda row: int(row.id))))}
        time.sleep(_POLL_S)
    lease = ledger.lease("loop")
    leader = "nobody has ever led" if lease is None else f"{lease[1]} led last"
    raise DependencyUnreachable(
        f"job {job} was asked for and has not ended in {wait_s:g} s ({leader}); is `perennial serve` running? "
        "It runs as soon as a leader is there"
    )


def _show(facts: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(facts)
        return
    print_table("", ("fact", "value"), ((name, _yes(value)) for name, value in facts.items()))


def _times(trigger: Mapping[str, Any]) -> str:
    return f"cron {trigger['cron']}" if "cron" in trigger else f"every {trigger['interval_s']:g} s"


def _last(run: "RunView | None") -> tuple[datetime | None, float | None, str | None, str | None]:
    return (None, None, None, None) if run is None else (run.slot, run.took_ms, run.outcome, run.note)


def _yes(value: Any) -> Any:
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else value
