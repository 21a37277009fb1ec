"""What this release changes in a workspace of an earlier one, and the change itself, behind a backup."""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from perennial.continual.errors import ConfigurationError, Refused
from perennial.ops.commands.backup import back_up
from perennial.ops.ledger import Ledger
from perennial.ops.ledger.dump import schema_of
from perennial.ops.ledger.migration import known_revisions
from perennial.ops.ledger.schema import REVISION
from perennial.ops.settings import Settings

__all__ = ["Upgrade", "upgrade", "usual_backup"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Upgrade:
    """The ledger's schema before and after, what each step between brings, and the backup from before."""

    schema: str
    then: str
    steps: tuple[str, ...]
    backup: str | None = None
    done: bool = False


def upgrade(settings: Settings, *, config: Path, backup: Path | None, running: int | None, dry_run: bool) -> Upgrade:
    """Bring the workspace to this release. Where it is there already nothing is done, and nothing is backed up.

    Raises:
        ConfigurationError: there is no ledger, or one of a later release.
        Refused: `perennial serve` is `running`, as this process: it has the ledger open by the older rules.
    """
    now, known = schema_of(settings.ledger_address), known_revisions()
    if now is None:
        raise ConfigurationError("there is no ledger where the settings say; run the command in the workspace's folder")
    if now not in known:
        raise ConfigurationError(
            f"the ledger has schema {now}, and this release knows up to {REVISION}; install the later release again, "
            f"or restore the backup from before it"
        )
    newest_first = list(known)
    steps = tuple(
        f"{number}: {known[number].strip().splitlines()[0]}" for number in newest_first[: newest_first.index(now)]
    )
    planned = Upgrade(schema=now, then=REVISION, steps=steps[::-1])
    if dry_run or not steps:
        return planned
    if running is not None:
        raise Refused(f"`perennial serve` (process {running}) runs here; stop it, then upgrade, then start it again")
    if backup is not None:
        back_up(settings, backup, config=config)
    Ledger.open(settings.ledger_address).close()
    told = None if backup is None else str(backup)
    return Upgrade(schema=now, then=REVISION, steps=planned.steps, backup=told, done=True)


def usual_backup(config: Path) -> Path:
    """A folder for a backup that nobody named: beside the settings, named by the time."""
    return config.resolve().parent / "backups" / f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
