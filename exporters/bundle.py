"""A bundle is a version folder that can be trusted: its manifest names and hashes every file in it."""

import hashlib
import importlib.metadata
import json
import os
import re
import stat
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from perennial.continual.atomic_file import drop_leftovers, sync, write_atomically
from perennial.continual.errors import BundleRejected, ConfigurationError
from perennial.exporters.signature import EngineSignature
from perennial.exporters.tasks import Room, room_of

__all__ = [
    "FORMAT",
    "MANIFEST",
    "EngineKind",
    "FileIdentity",
    "FileRecord",
    "Lineage",
    "Manifest",
    "Precision",
    "ReadFile",
    "digest",
    "digests_told",
    "note_digests",
    "read_manifest",
    "toolchain_versions",
    "verify_bundle",
    "write_manifest",
]

FORMAT = "perennial.bundle/2"
_BEFORE = "perennial.bundle/1"  # of text classifiers alone, whose part stood among the fields
MANIFEST = "manifest.json"
_TASK_BEFORE = "text_classification"
_PART_BEFORE = ("classes", "dimension", "max_length", "labels_sha256", "tokenizer_sha256")
_NAME = re.compile(r"(?:[A-Za-z0-9][A-Za-z0-9._-]{0,99}/)?[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_MANIFEST_LIMIT_BYTES = 16 * 2**20
_CHUNK_BYTES = 1 << 20
_SETTLED_NS = 100_000_000  # file systems tell times this coarsely at worst: an earlier change has another time
_LARGE_BYTES, _AT_ONCE = 4 * 2**20, 2  # files of which so many are worth threads, and the threads
_MOST_KNOWN = 4_096  # files, of which a process meets a few dozen
_known_digests: dict["FileIdentity", str] = {}
_Found = TypeVar("_Found")


class EngineKind(StrEnum):
    """Which runtime executes the engine file."""

    ONNXRUNTIME = "onnxruntime"
    OPENVINO = "openvino"
    TENSORRT = "tensorrt"
    AOTINDUCTOR = "aotinductor"


class Precision(StrEnum):
    """The arithmetic of the engine's matrix products."""

    FP32 = "fp32"
    TF32 = "tf32"
    BF16 = "bf16"
    FP16 = "fp16"
    FP8 = "fp8"
    INT8 = "int8"


@dataclass(frozen=True, slots=True, kw_only=True)
class FileRecord:
    """What one file must be, byte for byte."""

    sha256: str
    size_bytes: int

    @classmethod
    def of(cls, content: bytes) -> "FileRecord":
        """What a file with this content is."""
        return cls(sha256=hashlib.sha256(content).hexdigest(), size_bytes=len(content))


@dataclass(frozen=True, slots=True, kw_only=True)
class Lineage:
    """Where a version came from."""

    parent_version: int | None = None
    cycle_id: str | None = None
    learner: str | None = None
    rows: int = 0
    replay_rows: int = 0
    privacy: Mapping[str, Any] | None = None  # what it has told of rows, with epsilon and delta; None: it has no noise


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """Everything that is promised about one version.

    `engine_file` is the file the runtime opens. `options` are the runtime settings the engine was verified with, for
    example `inference_precision`. `parity` is the verdict's own record; `toolchain` maps package to version. `part` is
    the task's own. While files are being replaced, each is either as in `files` or as in `replacements`.
    """

    model: str
    version: int
    task: str
    signature: EngineSignature
    engine: EngineKind
    precision: Precision
    engine_file: str
    encoder_fingerprint: str
    graph_fingerprint: str
    created_at: str
    toolchain: Mapping[str, str]
    lineage: Lineage
    part: Mapping[str, Any] = field(default_factory=dict)
    parity: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, FileRecord] = field(default_factory=dict)
    replacements: Mapping[str, FileRecord] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.version < 1:
            raise BundleRejected(
                f"manifest of {self.model!r}: version {self.version} must be at least 1; export the version again"
            )
        for name in (self.engine_file, *self.files, *self.replacements):
            _check_name(name)

    def to_json(self) -> str:
        """The manifest as it lies on disk: one key order, so equal manifests are equal bytes."""
        record = {"format": FORMAT, **asdict(self), "signature": self.signature.to_record()}
        if self.lineage.privacy is None:  # 0.1 refuses a field that it does not know
            del record["lineage"]["privacy"]
        return json.dumps(record, indent=1, sort_keys=True, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "Manifest":
        """The manifest that `text` describes.

        Raises:
            BundleRejected: `text` is no manifest of this format.
        """
        try:
            raw = json.loads(text)
        except ValueError as exc:
            raise BundleRejected(f"{MANIFEST} is not JSON ({exc}); it is truncated or altered, export again") from exc
        if not isinstance(raw, dict) or raw.get("format") not in {FORMAT, _BEFORE}:
            seen = raw.get("format") if isinstance(raw, dict) else type(raw).__name__
            raise BundleRejected(f"{MANIFEST} has format {seen!r}; this version reads {FORMAT!r}; export again")
        fields = {key: value for key, value in raw.items() if key != "format"}
        try:
            if raw["format"] == _BEFORE:
                fields |= {"task": _TASK_BEFORE, "part": {name: fields.pop(name) for name in _PART_BEFORE}}
                fields["signature"] = room_of(_TASK_BEFORE).engine_signature(fields["part"])
            else:
                fields["signature"] = EngineSignature.from_record(fields["signature"])
            fields["engine"] = EngineKind(fields["engine"])
            fields["precision"] = Precision(fields["precision"])
            fields["lineage"] = Lineage(**fields["lineage"])
            for name in ("files", "replacements"):
                records = fields.get(name, {})
                fields[name] = {str(file): FileRecord(**record) for file, record in records.items()}
            return cls(**fields)
        except (KeyError, TypeError, ValueError, AttributeError, ConfigurationError) as exc:
            raise BundleRejected(f"{MANIFEST} has a wrong or missing field ({exc}); export the version again") from exc


def digest(path: Path, *, reread: bool = False) -> str:
    """The file's SHA-256 as hex, read in pieces of 1 MiB.

    A file that this process has read is read again only when it was touched since, or where that is asked for. The
    change time tells a write, but not every one: none by a mapping that was written to before, by a machine that shares
    the disk, or under a clock that was set back, and no decay.
    """
    state = hashlib.sha256()
    with path.open("rb") as stream:
        identity = _identity(stream.fileno())
        if not reread and (known := _known_digests.get(identity)) is not None:
            return known
        settled = time.time_ns() - identity.changed_ns > _SETTLED_NS
        while chunk := stream.read(_CHUNK_BYTES):
            state.update(chunk)
        if settled and _identity(stream.fileno()) == identity:
            if len(_known_digests) >= _MOST_KNOWN:
                _known_digests.clear()
            _known_digests[identity] = state.hexdigest()
    return state.hexdigest()


class FileIdentity(NamedTuple):
    """Which file it is, and in which state: any write to it changes one of these."""

    device: int
    inode: int
    bytes: int
    modified_ns: int
    changed_ns: int  # when anything about it was changed last


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadFile:
    """A file as a process has read it: which it was, and the SHA-256 of its content as hex."""

    identity: FileIdentity
    sha256: str

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> "ReadFile":
        """The file out of its JSON.

        Raises:
            KeyError, TypeError, ValueError: it is none.
        """
        return cls(identity=FileIdentity(*map(int, record["identity"])), sha256=str(record["sha256"]))


def digests_told(folder: Path) -> tuple[ReadFile, ...]:
    """What this process has read of a folder's files, for another one to `note_digests`."""
    told: list[ReadFile] = []
    for _, path in _walk(folder):
        with path.open("rb") as stream:
            identity = _identity(stream.fileno())
        if (known := _known_digests.get(identity)) is not None:
            told.append(ReadFile(identity=identity, sha256=known))
    return tuple(told)


def note_digests(told: Sequence[ReadFile]) -> None:
    """Take what a process that sealed a bundle has read of it for read here; see `digest` for what a change tells.

    Only for what one's own job has written: the digest of a file is believed while the file is as it was read.
    """
    if len(_known_digests) + len(told) > _MOST_KNOWN:
        _known_digests.clear()
    _known_digests.update((each.identity, each.sha256) for each in told)


def _identity(descriptor: int) -> FileIdentity:
    seen = os.fstat(descriptor)
    return FileIdentity(seen.st_dev, seen.st_ino, seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns)


def toolchain_versions(*packages: str) -> dict[str, str]:
    """Package to installed version; absent packages are left out."""
    versions = {package: _installed(package) for package in packages}
    return {package: version for package, version in versions.items() if version is not None}


@cache
def _installed(package: str) -> str | None:
    """Once for a process: a release's whole description is parsed to tell its number."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def write_manifest(folder: Path, manifest: Manifest) -> Manifest:
    """Hash every file of `folder` into the manifest and write it last, atomically and synced.

    What `manifest.files` and `manifest.replacements` held is replaced. Returns the manifest as written.

    Raises:
        BundleRejected: the folder holds a link, a special file or a name that a bundle may not have.
    """
    drop_leftovers(folder / MANIFEST)
    found = dict(_walk(folder))
    found.pop(MANIFEST, None)
    for name in found:
        _check_name(name)
    files = _of_each(found, _sealed)
    if manifest.engine_file not in files:
        raise BundleRejected(f"{folder}: engine file {manifest.engine_file!r} is not there; it has {sorted(files)}")
    written = Manifest.from_json(replace(manifest, files=files, replacements={}).to_json())
    write_atomically(folder / MANIFEST, written.to_json())
    return written


def _sealed(path: Path) -> FileRecord:
    record = FileRecord(sha256=digest(path), size_bytes=path.stat().st_size)
    sync(path)
    return record


def _of_each(files: Mapping[str, Path], work: Callable[[Path], _Found]) -> dict[str, _Found]:
    """What is found of each file by its name, of several large ones side by side: hashing leaves other threads running.

    The order of the names stays.
    """
    sizes = {name: path.stat().st_size for name, path in files.items()}
    if sum(size >= _LARGE_BYTES for size in sizes.values()) < _AT_ONCE:
        return {name: work(path) for name, path in files.items()}
    largest_first = sorted(files, key=lambda name: -sizes[name])
    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="digest") as pool:
        found = dict(zip(largest_first, pool.map(lambda name: work(files[name]), largest_first), strict=True))
    return {name: found[name] for name in files}


def read_manifest(folder: Path) -> Manifest:
    """The manifest alone, without looking at the files it names.

    Raises:
        BundleRejected: there is none, or it is not a manifest.
    """
    path = folder / MANIFEST
    try:
        mode = path.lstat().st_mode
        if not stat.S_ISREG(mode):
            raise BundleRejected(f"{path} is not a plain file; a bundle holds plain files only")
        if path.stat().st_size > _MANIFEST_LIMIT_BYTES:
            raise BundleRejected(f"{path} has {path.stat().st_size} bytes (limit {_MANIFEST_LIMIT_BYTES})")
        return Manifest.from_json(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError) as exc:
        raise BundleRejected(f"{folder} has no {MANIFEST}; it is not a finished bundle, export again") from exc
    except UnicodeDecodeError as exc:
        raise BundleRejected(f"{path} is not UTF-8 ({exc}); it is altered, export again") from exc


def verify_bundle(folder: Path, *, tensorrt_version: str | None = None, reread: bool = True) -> Manifest:
    """The manifest, after every file has been found as it promises; nothing of the engine is executed.

    Every file is read, unless `reread` is False: then one that this process has read may count as unchanged (`digest`).
    That is for steps within minutes of such a reading, and for an engine that the same process has held before, whose
    golden answers are asked again. One that is loaded to serve has every file read.

    `tensorrt_version` is the version of the runtime that will load the plan; by default the one installed here, and
    where there is none the plan's version is not compared.

    Raises:
        BundleRejected: a file is truncated, altered, missing, surplus, a link or oddly named, or not for this runtime.
    """
    manifest = read_manifest(folder)
    files = dict(_walk(folder))
    files.pop(MANIFEST, None)
    if missing := sorted(set(manifest.files) - set(files)):
        raise BundleRejected(f"{folder}: missing {missing}, which {MANIFEST} names; copy or export the bundle again")
    if surplus := sorted(set(files) - set(manifest.files)):
        raise BundleRejected(
            f"{folder}: surplus {surplus}, which {MANIFEST} does not name; remove them or export again"
        )
    if manifest.engine_file not in manifest.files:
        raise BundleRejected(f"{folder}: engine file {manifest.engine_file!r} is not among the hashed files")
    digests = _of_each({name: files[name] for name in manifest.files}, partial(digest, reread=reread))
    for name, record in manifest.files.items():
        seen = FileRecord(sha256=digests[name], size_bytes=files[name].stat().st_size)
        _check_file(folder, name, seen, (record, manifest.replacements.get(name)))
    _room(manifest).check_bundle(folder, manifest.part, manifest.files)
    _check_tensorrt(folder, manifest, tensorrt_version)
    return manifest


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise BundleRejected(
            f"a bundle may not name the file {name!r}; allowed are plain names of letters, digits, '.', '_' and '-', "
            "at most one folder deep"
        )


def _walk(folder: Path) -> Iterator[tuple[str, Path]]:
    """Every file under the folder by its name relative to it, links refused rather than followed."""
    if folder.is_symlink() or not folder.is_dir():
        raise BundleRejected(f"{folder} is not a folder; give the version folder itself, not a link to it")
    pending = [folder]
    while pending:
        here = pending.pop()
        for entry in sorted(os.scandir(here), key=lambda item: item.name):
            path = Path(entry.path)
            name = path.relative_to(folder).as_posix()
            if entry.is_symlink():
                raise BundleRejected(f"{folder}: {name!r} is a link; a bundle holds plain files only")
            if entry.is_dir():
                pending.append(path)
            elif entry.is_file():
                yield name, path
            else:
                raise BundleRejected(f"{folder}: {name!r} is neither a file nor a folder; remove it")


def _room(manifest: Manifest) -> Room:
    try:
        return room_of(manifest.task)
    except ConfigurationError as exc:
        raise BundleRejected(f"{MANIFEST}: {exc}") from exc


def _check_file(folder: Path, name: str, seen: FileRecord, allowed: tuple[FileRecord, FileRecord | None]) -> None:
    record, other = allowed
    if seen == other:
        return
    if seen.size_bytes != record.size_bytes:
        word = "truncated" if seen.size_bytes < record.size_bytes else "altered"
        raise BundleRejected(
            f"{folder}: {name} is {word}: {seen.size_bytes} bytes, {MANIFEST} says {record.size_bytes}"
        )
    if seen.sha256 != record.sha256:
        raise BundleRejected(
            f"{folder}: {name} is altered: sha256 {seen.sha256[:12]}…, {MANIFEST} says {record.sha256[:12]}…"
        )


_TENSORRT_PACKAGES = ("tensorrt", "tensorrt-rtx-cu12-bindings")  # versions are compared within one of them


def _check_tensorrt(folder: Path, manifest: Manifest, runtime: str | None) -> None:
    if manifest.engine is not EngineKind.TENSORRT:
        return
    library = next((name for name in _TENSORRT_PACKAGES if name in manifest.toolchain), "tensorrt")
    runtime = runtime or toolchain_versions(library).get(library)
    built = manifest.toolchain.get(library)
    if built is None:
        raise BundleRejected(f"{folder}: a TensorRT plan without its TensorRT version in {MANIFEST}; export again")
    if runtime is None or runtime == built:
        return
    if manifest.options.get("version_compatible") == "true" and _release(runtime) >= _release(built):
        return
    raise BundleRejected(
        f"{folder}: the plan was built by TensorRT {built}, the runtime is {runtime}; "
        "export it again there, or with version compatibility"
    )


def _release(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])
