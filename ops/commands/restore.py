"""A workspace made of a backup, on this machine or another one, under this path or another one."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import func, update

from perennial.continual.atomic_file import share_file, write_atomically
from perennial.continual.errors import PerennialError, Refused
from perennial.ops.commands.backup import BUNDLES, LEDGER, SETTINGS, STATE, Backup, digest_of, read_backup
from perennial.ops.ledger import Ledger
from perennial.ops.ledger.dump import check_empty, is_loaded, load_ledger
from perennial.ops.ledger.schema import drift_report
from perennial.ops.safety.permissions import give_as
from perennial.ops.settings import Settings, load_settings
from perennial.ops.store.route_changes import restore_route_file
from perennial.ops.store.workspace import Workspace

__all__ = ["Restored", "check_whole", "restore"]

_MARK = "restoring.json"  # in the state while a restore is not whole
_HARMLESS = frozenset({_MARK, "serve.lock", "ledger.db", "ledger.db-wal", "ledger.db-shm"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """What was made, or would be, of a backup."""

    made_at: str
    release: str
    schema: str
    files: int
    bytes: int
    models: tuple[str, ...]
    state: str
    repository: str
    settings: str


def restore(source: Path, config: Path, *, actor: str, dry_run: bool = False) -> Restored:
    """Check a backup and make its workspace: where the settings say, else where those of the backup say.

    The ledger comes last and in one transaction. A killed restore is finished by another one of the same backup.

    Raises:
        DataError: the backup is damaged, or of a later release.
        Refused: there is something already where it would go.
        ConfigurationError, DependencyUnreachable: see `load_settings` and `Ledger.open`.
    """
    backup, brings = read_backup(source), not config.is_file()
    if brings and not (source / SETTINGS).is_file():
        raise Refused(f"the backup has no settings and {config} does not exist; write it first, or give --config")
    if brings and not dry_run:
        config.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source / SETTINGS, config)
    try:
        settings = _settings(source, config, looks=brings and dry_run)
        begun = _check_target(settings, source)
        if not (loaded := begun and is_loaded(settings.ledger_address, backup.ledger)):
            check_empty(settings.ledger_address)
    except PerennialError:
        if brings and not dry_run:
            config.unlink()
        raise
    if not dry_run:
        give_as(settings.umask)
        if not loaded:
            _put(source, backup, settings)
        _finish(source, backup, settings, actor)
    return _told(source, backup, settings, config)


def check_whole(state: Path) -> None:
    """Return where no restore was cut off.

    Raises:
        Refused: one was.
    """
    if (mark := state / _MARK).is_file():
        raise Refused(f"{state} is half restored, from the backup that {mark} names; restore that again first")


def _settings(source: Path, config: Path, *, looks: bool) -> Settings:
    """The settings that will be in force; a rehearsal reads those of the backup as if they lay where they will."""
    if not looks:
        return load_settings(config)
    settings, base = load_settings(source / SETTINGS), (source / SETTINGS).resolve().parent
    here = config.resolve().parent
    moved = {
        name: here / path.relative_to(base)
        for name in ("state", "repository")
        if (path := getattr(settings, name)).is_relative_to(base)
    }
    return settings.model_copy(update=moved)


def _check_target(settings: Settings, source: Path) -> bool:
    """Whether a restore of this backup was begun there; where none was, nothing may be there."""
    state, mark = settings.state, settings.state / _MARK
    if mark.is_file():
        begun = json.loads(mark.read_text(encoding="utf-8"))["backup"]
        if begun == str(source.resolve()):
            return True
        raise Refused(f"{state} is half restored from {begun}; restore that again, or delete {state}")
    there = sorted(path.name for path in state.iterdir() if path.name not in _HARMLESS) if state.is_dir() else []
    if there:
        raise Refused(f"{state} is not empty ({', '.join(there[:5])}); restore beside it, or move it away first")
    bundles = sorted(path.name for path in settings.repository.glob("*/[0-9]*") if any(path.iterdir()))
    if bundles:
        raise Refused(f"{settings.repository} holds bundles already; restore beside it, or move it away first")
    return False


def _put(source: Path, backup: Backup, settings: Settings) -> None:
    """The files, and then all rows at once."""
    settings.state.mkdir(parents=True, exist_ok=True)
    settings.repository.mkdir(parents=True, exist_ok=True)
    write_atomically(settings.state / _MARK, json.dumps({"backup": str(source.resolve())}))
    places, first = {STATE: settings.state, BUNDLES: settings.repository}, dict[str, Path]()
    for name, file in backup.files.items():
        part, _, rest = name.partition("/")
        if part not in places:
            continue
        target = places[part] / rest
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        if part == BUNDLES and file.sha256 in first:  # versions share large files
            share_file(first[file.sha256], target)
            continue
        shutil.copy2(source / name, target)
        if part == BUNDLES:
            first[file.sha256] = target
    load_ledger(settings.ledger_address, source / LEDGER, backup.ledger)


def _finish(source: Path, backup: Backup, settings: Settings, actor: str) -> None:
    """What follows from the rows; a restore that was killed here does all of it again."""
    workspace = Workspace(settings)
    with Ledger.open(settings.ledger_address) as ledger:
        _place_reports(ledger, backup.state, str(settings.state.resolve()))
        for model in ledger.models():
            if ledger.route(model.name) is not None:
                restore_route_file(ledger, workspace, model.name)
        detail = {
            "made_at": backup.made_at.isoformat(),
            "release": backup.release,
            "from": digest_of(source / "backup.json"),
        }
        ledger.audit(actor, "backup.restored", None, detail)
    (settings.state / _MARK).unlink()


def _place_reports(ledger: Ledger, before: str, now: str) -> None:
    """Reports are named by where they lie."""
    path = drift_report.c.path
    moved = update(drift_report).where(path.startswith(f"{before}/", autoescape=True))
    with ledger.engine.begin() as connection:
        connection.execute(moved.values(path=now + func.substr(path, len(before) + 1)))


def _told(source: Path, backup: Backup, settings: Settings, config: Path) -> Restored:
    with (source / LEDGER / "model.jsonl").open(encoding="utf-8") as file:
        models = tuple(json.loads(line)["name"] for line in file)
    return Restored(
        made_at=backup.made_at.isoformat(),
        release=backup.release,
        schema=backup.ledger.schema,
        files=len(backup.files),
        bytes=backup.size,
        models=models,
        state=str(settings.state),
        repository=str(settings.repository),
        settings=str(config),
    )
