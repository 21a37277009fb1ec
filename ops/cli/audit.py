"""`audit show|verify`."""

from typing import Annotated, Any

import typer

from perennial.ops.cli.console import ConfigOption, JsonOption, print_json, print_table
from perennial.ops.cli.session import session

__all__ = ["register"]

_app = typer.Typer(help="Who did what, when and why; append-only and hash-chained.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(_app, name="audit")


@_app.command()
def show(
    model: Annotated[str | None, typer.Option("--model", "-m", help="only this model")] = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="newest entries")] = 30,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """The newest entries, oldest first."""
    import json

    with session(config) as parts:
        entries = parts.ledger.audit_entries(model, limit=limit)
    if as_json:
        print_json(entries)
        return
    print_table(
        "Audit log",
        ("no", "at", "who", "model", "what", "details"),
        (
            (e.seq, e.at, e.actor, e.model, e.action, json.dumps(dict(e.detail), default=str, ensure_ascii=False))
            for e in entries
        ),
    )


@_app.command()
def verify(
    anchor: Annotated[
        str | None, typer.Option(help="SEQ:HASH, as an earlier `verify` or the log's `audit.head` told it")
    ] = None,
    config: ConfigOption = None,
) -> None:
    """Recompute the chain; exit code 1 names the first entry that was changed, moved, added or removed.

    Whoever may rewrite the database can cut its end and its head together, or make the whole chain anew. An anchor that
    was kept elsewhere shows that too: the entry that it names must be there with the hash that it had.
    """
    from dataclasses import asdict

    with session(config) as parts:
        known = None if anchor is None else _anchor(anchor)
        verdict, head = parts.ledger.verify_audit(), parts.ledger.audit_head()
        if known is not None and verdict.intact:
            verdict = _held_to(parts.ledger, verdict, *known)
    print_json({**asdict(verdict), "head": {"seq": head[0], "hash": head[1]}, "anchor": f"{head[0]}:{head[1]}"})
    if not verdict.intact:
        raise typer.Exit(1)


def _anchor(anchor: str) -> tuple[int, str]:
    from perennial.continual.errors import InputError

    number, _, known = anchor.partition(":")
    if not number.isdigit() or len(known) != 64 or set(known) - set("0123456789abcdef"):
        raise InputError(f"--anchor {anchor!r} is not SEQ:HASH; give what `perennial audit verify` printed as anchor")
    return int(number), known


def _held_to(ledger: Any, verdict: Any, seq: int, known: str) -> Any:
    """The verdict on an intact chain by an anchor from elsewhere."""
    from dataclasses import replace

    from perennial.ops.ledger.audit import GENESIS

    if seq > verdict.entries:
        reason = f"the anchor tells of entry {seq} and the log ends at {verdict.entries}: its end was cut off"
        return replace(verdict, intact=False, broken_seq=verdict.entries + 1, reason=reason)
    actual = GENESIS if seq == 0 else next(iter(ledger.audit_entries(since_seq=seq - 1))).hash
    if actual != known:
        reason = f"entry {seq} has hash {actual[:12]}, the anchor has {known[:12]}: the chain was made anew"
        return replace(verdict, intact=False, broken_seq=seq, reason=reason)
    return verdict
