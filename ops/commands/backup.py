"""A workspace as it is at one moment, in one folder: ledger, state, bundles, settings, each file with its checksum.

The ledger comes first, out of one moment. Then the rest is copied until nothing of it has gone meanwhile, so that
`perennial serve` may go on. Of the bundles those are copied that this ledger knows, so that both tell the same.
"""

import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from hashlib import file_digest
from importlib.metadata import version
from pathlib import Path
from typing import Any, Self

from perennial.continual.atomic_file import share_file, write_atomically
from perennial.continual.errors import DataError, Refused
from perennial.ops.ledger.dump import LedgerDump, dump_ledger, file_of
from perennial.ops.settings import Settings
from perennial.ops.store.private_file import copied

__all__ = ["BUNDLES", "LEDGER", "SETTINGS", "STATE", "Backup", "StoredFile", "back_up", "digest_of", "read_backup"]

FORMAT = "perennial.backup/1"
MANIFEST, LEDGER, STATE, BUNDLES, SETTINGS = "backup.json", "ledger", "state", "bundles", "perennial.toml"
_OF_A_PROCESS = frozenset({"cache", "clock.json", "restoring.json", "route", "serve.json", "triton"})
_KEY = "console.json"  # whoever has it, and a ledger, can make sessions of everybody
_OF_EXCHANGES = re.compile("federation/[^/]+/rounds/.*")  # whoever has such a key takes the masks off what was sent
_NO_COPY = (".lock", "-wal", "-shm", "-journal", ".sock")
_SQLITE = b"SQLite format 3\0"
_LOOKS = 20  # at folders that change


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredFile:
    """One file of a backup."""

    size: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Backup:
    """What a backup holds; `state` is where the state lay."""

    made_at: datetime
    release: str
    state: str
    ledger: LedgerDump
    files: Mapping[str, StoredFile]

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files.values())

    def to_json(self) -> dict[str, Any]:
        """The manifest."""
        return {"format": FORMAT, **asdict(self), "made_at": self.made_at.isoformat()}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """The backup of a manifest."""
        return cls(
            made_at=datetime.fromisoformat(document["made_at"]),
            release=document["release"],
            state=document["state"],
            ledger=LedgerDump(**document["ledger"]),
            files={name: StoredFile(**file) for name, file in document["files"].items()},
        )


def back_up(settings: Settings, target: Path, *, config: Path) -> Backup:
    """Write a backup of the workspace into a new folder; it has its name once it is whole.

    Raises:
        Refused: the folder exists, or lies in the state itself.
        DataError: there is no workspace, or it changes too fast to be copied.
        DependencyUnreachable: the ledger cannot be read.
    """
    if target.exists():
        raise Refused(f"{target} exists; name a folder that does not, so that no older backup is lost")
    if target.resolve().is_relative_to(settings.state.resolve()):
        raise Refused(f"{target} lies in {settings.state}, which is copied; name a folder outside of it")
    target.parent.mkdir(parents=True, exist_ok=True)
    making = target.with_name(f".{target.name}.making")
    if making.exists():
        shutil.rmtree(making)
    try:
        for part in (LEDGER, STATE, BUNDLES):
            (making / part).mkdir(parents=True)
        made_at, dump = datetime.now(UTC), dump_ledger(settings.ledger_address, making / LEDGER)
        _copy_bundles(settings, making)
        _mirror(settings, making / STATE)
        if config.is_file():
            shutil.copy2(config, making / SETTINGS)
        backup = Backup(
            made_at=made_at,
            release=version("perennial-serving"),
            state=str(settings.state.resolve()),
            ledger=dump,
            files={name: _stored(making / name) for name in _names(making)},
        )
        write_atomically(making / MANIFEST, json.dumps(backup.to_json(), indent=1))
        _sync(making)
        making.rename(target)
    finally:
        if making.exists():
            shutil.rmtree(making)
    return backup


def read_backup(folder: Path) -> Backup:
    """A backup, all of whose files are as they were written.

    Raises:
        DataError: it is none, of a later release, or damaged; the files are named.
    """
    try:
        document = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        if document["format"] != FORMAT:
            raise DataError(f"{folder} has format {document['format']!r}, and this release reads {FORMAT!r}")
        backup = Backup.from_json(document)
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as exc:
        raise DataError(f"{folder} is no backup ({type(exc).__name__}); name a folder of `perennial backup`") from exc
    there = set(_names(folder))  # no name among them leads out of the folder
    wrong = [name for name, file in backup.files.items() if name not in there or not _is(folder / name, file)]
    wrong += sorted(there - set(backup.files))
    if wrong:
        raise DataError(f"the backup {folder} is damaged: {len(wrong)} files, e.g. {wrong[0]}; use another one")
    return backup


def digest_of(path: Path) -> str:
    """The SHA-256 of a file."""
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()


def _copy_bundles(settings: Settings, making: Path) -> None:
    linked: dict[tuple[int, int], Path] = {}
    for model, number in _versions(making / LEDGER):
        bundle = settings.repository / f"{model}_engine" / str(number)
        if not bundle.is_dir():
            continue
        target = making / BUNDLES / f"{model}_engine" / str(number)
        try:
            for name in _files_below(bundle, follows=True):
                _copy_or_link(bundle / name, target / name, linked)
        except FileNotFoundError:  # the retention took it
            shutil.rmtree(target, ignore_errors=True)
    for row in _rows(making / LEDGER / "route.jsonl"):
        for number in row["resident"]:
            if not (making / BUNDLES / f"{row['model']}_engine" / str(number)).is_dir():
                raise DataError(f"version {number} of {row['model']} answers and has no bundle; see `perennial status`")


def _versions(ledger: Path) -> Iterator[tuple[str, int]]:
    for row in _rows(ledger / "version.jsonl"):
        yield row["model"], row["version"]


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)


def _copy_or_link(source: Path, target: Path, linked: dict[tuple[int, int], Path]) -> None:
    """Versions share large files; a backup holds them once too."""
    target.parent.mkdir(parents=True, exist_ok=True)
    status = source.stat()
    first = linked.setdefault((status.st_dev, status.st_ino), target)
    if first is target or not first.exists():
        shutil.copy2(source, target)
        linked[status.st_dev, status.st_ino] = target
    else:
        share_file(first, target)


def _mirror(settings: Settings, target: Path) -> None:
    """Copy the state until a look finds all that the look before found; what has gone meanwhile goes here too.

    What has come since that look is of a later moment. What has gone may live on in it, as traffic that was compacted.
    """
    kept, whole = frozenset[str](), False
    for _ in range(_LOOKS):
        now = frozenset(_state_files(settings))
        if whole and kept <= now:
            return
        for name in kept - now:
            (target / name).unlink()
        lost = {name for name in sorted(now - kept) if not _copied(settings.state / name, target / name)}
        kept, whole = now - lost, not lost
    raise DataError(f"{settings.state} changes faster than it can be copied; try again, or stop `perennial serve`")


def _state_files(settings: Settings) -> Iterator[str]:
    own, ledger = settings.repository.resolve(), file_of(settings.ledger_address)
    for name in _files_below(settings.state, follows=True):
        first = name.partition("/")[0]
        if first in _OF_A_PROCESS or name == _KEY or first.startswith("ledger.db") or name.endswith(_NO_COPY):
            continue
        if _OF_EXCHANGES.fullmatch(name):
            continue
        path = (settings.state / name).resolve()
        if path != ledger and not path.is_relative_to(own):  # where the repository lies in the state
            yield name


def _copied(source: Path, target: Path) -> bool:
    """Copy a file; False where it has gone."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with source.open("rb") as file:
            is_database = file.read(len(_SQLITE)) == _SQLITE
        if is_database:
            copied(source, target)
        else:
            shutil.copy2(source, target)
    except FileNotFoundError:
        target.unlink(missing_ok=True)
        return False
    return True


def _files_below(folder: Path, *, follows: bool = False) -> list[str]:
    """Names of files, without what is being written under a name of its own; links are passed over, or followed."""
    found, walked = list[str](), set[Path]()
    for at, below, names in os.walk(folder, followlinks=follows):
        here = Path(at)
        walked.add(here.resolve())  # a link may lead back
        below[:] = [name for name in below if not (here / name).is_symlink() or (here / name).resolve() not in walked]
        for name in names:
            path = here / name
            if path.is_file() and (follows or not path.is_symlink()) and not name.startswith("."):
                found.append(path.relative_to(folder).as_posix())
    return found


def _names(folder: Path) -> list[str]:
    return sorted(name for name in _files_below(folder) if name != MANIFEST)


def _stored(path: Path) -> StoredFile:
    return StoredFile(size=path.stat().st_size, sha256=digest_of(path))


def _is(path: Path, file: StoredFile) -> bool:
    return path.is_file() and path.stat().st_size == file.size and digest_of(path) == file.sha256


def _sync(folder: Path) -> None:
    for here, _, names in os.walk(folder):
        for name in names:
            with Path(here, name).open("rb") as file:
                os.fsync(file.fileno())
