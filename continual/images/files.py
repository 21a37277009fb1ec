"""Labelled images on disk: a folder for each class, or a table whose rows name files beside it."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType

from perennial.continual.errors import DataError, RowsRefused
from perennial.continual.images.picture import MOST_BYTES, Picture, read_image
from perennial.continual.images.store import ImageStore
from perennial.continual.preparation import (
    LABEL,
    STANDARD_INPUT,
    FileReading,
    KnownLabels,
    Role,
    admit_attributes,
    admit_key,
    admit_time,
    read_table,
    refuse_rows,
    shown,
)
from perennial.continual.preparation.tables import TableRow
from perennial.continual.records import Example, Origin

__all__ = ["IMAGE", "holds_images", "image_rows", "read_file"]

IMAGE = Role("image", ("path", "file", "filename", "file_name"))
_ROLES = (IMAGE, LABEL, Role("at"), Role("key"))
_ENDINGS = frozenset({".jpg", ".jpeg", ".png"})
_TOLD = 5  # files that a message names
_NOTHING_STATED = FileReading()


def image_rows(
    data: Path,
    store: ImageStore,
    *,
    reading: FileReading = _NOTHING_STATED,
    known: KnownLabels | None = None,
    refused: list[dict[str, object]] | None = None,
    attributes: Sequence[str] = (),
) -> list[Example]:
    """The rows of a folder or a table; their pictures are put into the store.

    A folder holds one folder for each class, named by it, with JPEG and PNG files. A table has the columns `image`, a
    path beside the table, and `label`, and optionally `at` and `key`; `attributes` are further columns that say whose a
    row is. Nothing outside of the folder is read, whatever a path or a link says. Wrong ones are collected in `refused`
    and left out where it is given.

    Raises:
        DataError: there are no images, or the table cannot be read.
        RowsRefused: images or rows are wrong; it names each.
    """
    labels = known or KnownLabels()
    if data.is_dir():
        rows, bad = _of_folders(data, store, labels)
        if bad and refused is None:
            told = "; ".join(f"{row['row']}: {row['cause']}" for row in bad[:_TOLD])
            wrong, of = len(bad), len(bad) + len(rows)
            raise RowsRefused(f"{data}: {wrong} of {of} files are no images to learn from: {told}", bad)
        if not rows and not bad:
            raise DataError(f"{data} has no folder with .jpg, .jpeg or .png files; give each class a folder of its own")
        (refused if refused is not None else []).extend(bad)
        return rows
    table = read_table(data, (*_ROLES, *map(Role, attributes)), reading)
    table.require(("image", "label"))
    now = datetime.now(UTC)
    rows, bad = table.admitted(lambda row: _of_table(row, data.parent, store, now, labels, attributes))
    if refused is None:
        refuse_rows(table, bad)
    else:
        refused += bad
    return rows


def holds_images(data: Path, reading: FileReading = _NOTHING_STATED) -> bool:
    """Whether labelled images are in it, and not labels of something else; standard input has no files beside it."""
    return data.is_dir() or (data != STANDARD_INPUT and "image" in read_table(data, _ROLES, reading).named)


def read_file(folder: Path, named: str) -> bytes:
    """The content of a file inside a folder, by its path from there.

    Raises:
        DataError: it is not there, no file, too large, or lies outside of the folder.
    """
    path = folder / named
    try:
        if not path.resolve().is_relative_to(folder.resolve()):
            raise DataError(f"{shown(named)} leads out of {folder}; keep the images inside")
        if not path.is_file():
            raise DataError(f"{shown(named)} is no file in {folder}; paths count from there")
        if (size := path.stat().st_size) > MOST_BYTES:
            raise DataError(f"{shown(named)} has {size:,} bytes (limit {MOST_BYTES:,}); make it smaller")
        return path.read_bytes()
    except (OSError, ValueError, RuntimeError) as exc:  # ValueError: a null byte; RuntimeError: links in a circle
        raise DataError(f"{shown(named)} cannot be read in {folder}: {exc}") from exc


def _of_table(
    row: TableRow, folder: Path, store: ImageStore, now: datetime, known: KnownLabels, attributes: Sequence[str]
) -> Example:
    for field in ("image", "label"):
        if not row.fields.get(field):
            raise DataError(f"its {field} is empty; fill it or drop the row")
    at = row.fields.get("at")  # a refused row leaves no picture and makes no label known
    time = admit_time(at, now=now, without_zone_is_utc=True) if at else now
    key = admit_key(row.fields.get("key"))
    whose = admit_attributes({name: row.fields.get(name) for name in attributes}, attributes)
    picture = read_image(read_file(folder, row.fields["image"]), field=row.fields["image"])
    return _kept(store, picture, label=known.admit(row.fields["label"]), at=time, key=key, attributes=whose)


def _of_folders(data: Path, store: ImageStore, known: KnownLabels) -> tuple[list[Example], list[dict[str, object]]]:
    now, rows, bad = datetime.now(UTC), list[Example](), list[dict[str, object]]()
    for label, named in _files(data):
        try:
            picture = read_image(read_file(data, named), field="it")
            rows.append(_kept(store, picture, label=known.admit(label), at=now))
        except DataError as error:
            bad.append({"row": named, "cause": str(error)})
    return rows, bad


def _files(data: Path) -> Iterator[tuple[str, str]]:
    """Label and path of each image, in order.

    Raises:
        DataError: a folder cannot be read.
    """
    try:
        for folder in sorted(data.iterdir()):
            if folder.is_dir() and not folder.name.startswith("."):
                for name in sorted(path.name for path in folder.iterdir()):
                    if Path(name).suffix.lower() in _ENDINGS and not name.startswith("."):
                        yield folder.name, f"{folder.name}/{name}"
    except OSError as exc:
        raise DataError(f"{exc.filename} cannot be read ({exc.strerror}); mend its rights, or move it") from exc


def _kept(
    store: ImageStore,
    picture: Picture,
    *,
    label: str,
    at: datetime,
    key: str | None = None,
    attributes: Mapping[str, str] = MappingProxyType({}),
) -> Example:
    store.put(picture)
    return Example(text=picture.name, label=label, at=at, origin=Origin.SEED, key=key, attributes=dict(attributes))
