"""`backup`, `restore`, `upgrade`."""

from pathlib import Path
from typing import Annotated

import typer

from perennial.ops.cli.actor import actor
from perennial.ops.cli.console import ConfigOption, DryRunOption, print_json, say

__all__ = ["register"]

_CONFIG = Path("perennial.toml")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(backup)
    app.command()(restore)
    app.command()(upgrade)


def backup(
    target: Annotated[
        Path | None, typer.Argument(help="a folder that does not exist yet; default backups/TIME beside the settings")
    ] = None,
    dry_run: DryRunOption = False,
    config: ConfigOption = None,
) -> None:
    """Copy ledger, state, bundles and settings of one moment into a folder; `serve` may go on. It holds texts."""
    from perennial.ops.commands.backup import back_up
    from perennial.ops.commands.upgrade import usual_backup
    from perennial.ops.ledger.dump import schema_of
    from perennial.ops.settings import load_settings

    settings, place = load_settings(config), target or usual_backup(config or _CONFIG)
    if dry_run:
        schema = schema_of(settings.ledger_address)
        print_json({"dry_run": True, "would_write": place, "schema": schema, "state": settings.state})
        return
    made = back_up(settings, place, config=config or _CONFIG)
    rows = sum(made.ledger.rows.values())
    told = {"backup": place, "made_at": made.made_at, "files": len(made.files), "bytes": made.size}
    print_json({**told, "ledger_rows": rows, "schema": made.ledger.schema})


def restore(
    source: Annotated[Path, typer.Argument(help="a folder of `perennial backup`")],
    dry_run: DryRunOption = False,
    config: ConfigOption = None,
) -> None:
    """Make a workspace of a backup, here or where the settings say; nothing that is there already is overwritten."""
    from perennial.ops.commands.restore import restore as put_back

    restored = put_back(source, config or _CONFIG, actor=actor(), dry_run=dry_run)
    print_json({"dry_run": True, "would_restore": restored} if dry_run else {"restored": restored})
    if not dry_run:
        say("start it with `perennial serve`; who was erased after this backup was made must be erased again")


def upgrade(
    backup_to: Annotated[
        Path | None, typer.Option("--backup", help="where the backup goes; default backups/TIME beside the settings")
    ] = None,
    no_backup: Annotated[bool, typer.Option("--no-backup", help="make none; you have one")] = False,
    dry_run: DryRunOption = False,
    config: ConfigOption = None,
) -> None:
    """Bring the workspace of an earlier release to this one: say what changes, back up, then change it."""
    from perennial.ops.app.running import RunningServe
    from perennial.ops.commands.upgrade import upgrade as bring_up
    from perennial.ops.commands.upgrade import usual_backup
    from perennial.ops.settings import load_settings

    settings, where = load_settings(config), config or _CONFIG
    place = None if no_backup else backup_to or usual_backup(where)
    serve = RunningServe.of(settings.state)
    running = None if serve is None else serve.pid
    done = bring_up(settings, config=where, backup=place, running=running, dry_run=dry_run)
    print_json({"dry_run": True, "would_change": done} if dry_run else done)
    if not done.steps:
        say("the workspace is of this release; there is nothing to do")
