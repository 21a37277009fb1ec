"""`audit show|verify`."""

from typing import Annotated

import typer

from ops.cli.console import ConfigOption, JsonOption, print_json, print_table

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
    from dataclasses import asdict

    from ops.wiring import open_parts

    parts = open_parts(config)
    try:
        entries = parts.ledger.audit_entries(model, limit=limit)
    finally:
        parts.close()
    if as_json:
        print_json([asdict(entry) for entry in entries])
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
def verify(config: ConfigOption = None) -> None:
    """Recompute the chain; exit code 1 names the first entry that was changed, added or removed."""
    from dataclasses import asdict

    from ops.wiring import open_parts

    parts = open_parts(config)
    try:
        verdict, head = parts.ledger.verify_audit(), parts.ledger.audit_head()
    finally:
        parts.close()
    print_json({**asdict(verdict), "head": {"seq": head[0], "hash": head[1]}})
    if not verdict.intact:
        raise typer.Exit(1)
