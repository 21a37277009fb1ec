"""The bytes of a file, or of standard input, taken out of gz, zst and zip; never more than can be held."""

import codecs
import gzip
import io
import lzma
import struct
import sys
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from perennial.continual.errors import DataError
from perennial.continual.preparation.tables.table import offered, quoted

__all__ = ["MOST_BYTES", "STANDARD_INPUT", "Content", "is_workbook", "read_content", "within_bounds"]

STANDARD_INPUT = Path("-")
MOST_BYTES = 1 << 30  # unpacked
_MOST_GROWTH = 200  # text packs 3 to 30 times; what grows more than this was made to fill the memory
_FREE = 64 << 20  # that much may come out of however little
_STEP = 1 << 20
_GZIP, _ZSTD, _ZIP, _EMPTY_ZIP = b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"PK\x03\x04", b"PK\x05\x06"
_WORKBOOK = "xl/workbook.xml"
_DOCUMENTS = (  # zip files that are no packed tables, by a part that each of the kind has
    ("content.xml", "an OpenDocument file"),
    ("xl/workbook.bin", "a binary Excel file"),
    ("word/document.xml", "a Word document"),
    ("Index/Document.iwa", "a Numbers or Pages document"),
)
_WRONG = (  # what the ways of packing raise of damaged bytes
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error),
    *(EOFError, OSError, RuntimeError, ValueError, LookupError, ArithmeticError),
)
_WEB_FIX = "download the file itself, not the page about it; a table of a page is saved as CSV by a spreadsheet program"
_FOREIGN = (  # what is given by mistake, and what to do about it
    (b"BZh", "packed with bzip2", "unpack it, or pack it with gzip"),
    (b"\xfd7zXZ", "packed with xz", "unpack it, or pack it with gzip"),
    (b"7z\xbc\xaf", "a 7-Zip archive", "unpack it, or pack it with gzip"),
    (b"Rar!", "a RAR archive", "unpack it, or pack it with gzip"),
    (b"\xd0\xcf\x11\xe0", "an old Excel or Office file", "save it as .xlsx or CSV"),
    (b"%PDF", "a PDF", "export its table as CSV"),
    (b"\x89PNG", "a picture", "give the labelled rows as CSV"),
    (b"\xff\xd8\xff", "a picture", "give the labelled rows as CSV"),
    (b"SQLite format 3", "an SQLite database", "export its table as CSV"),
    (b"ARROW1", "an Arrow file", "write it as Parquet"),
    (b"FEA1", "a Feather file", "write it as Parquet"),
    (b"Obj\x01", "an Avro file", "write it as Parquet"),
    (b"\x80\x04\x95", "a Python pickle", "write it as CSV or Parquet; a pickle is never opened"),
    (b"\x93NUMPY", "a NumPy array", "write texts and labels as CSV"),
    (b"<?xml", "XML", "convert it to CSV"),
    *((sign, "a web page", _WEB_FIX) for sign in (b"<!doctype html", b"<html", b"<head", b"<body", b"<table")),
    (b"version https://git-lfs", "a pointer of Git LFS", "fetch the file itself with `git lfs pull`"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """Unpacked bytes, how messages name them, and what their name ends with, in lower case."""

    source: str
    suffix: str
    data: bytes


def read_content(path: Path) -> Content:
    """The bytes of a file, unpacked once where it is packed; `-` is standard input.

    Raises:
        DataError: it cannot be read, is no table, is damaged, or holds more than can be read.
    """
    source = "standard input" if path == STANDARD_INPUT else str(path)
    content = Content(source=source, suffix=path.suffix.lower(), data=_whole(path, source))
    unpack = _unpacking(content.data)
    if unpack is not None:
        content = unpack(content)
        if _unpacking(content.data) is not None:
            raise DataError(f"{content.source} is packed twice; unpack it once before")
    begin = content.data[:1024].removeprefix(codecs.BOM_UTF8).lstrip()
    for start, what, fix in _FOREIGN:
        if begin.startswith(start) or (start.startswith(b"<") and begin.lower().startswith(start)):
            raise DataError(f"{content.source} is {what}; {fix}")
    return content


def is_workbook(data: bytes) -> bool:
    """Whether these bytes are an Excel file: a zip that holds a workbook."""
    if not data.startswith(_ZIP):
        return False
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return _WORKBOOK in archive.namelist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError, UnicodeDecodeError):
        return False


def within_bounds(source: str, packed: int, unpacked: int) -> None:
    """See to it that what comes out of a file is no more than can be held, and not out of proportion.

    Raises:
        DataError: it is.
    """
    most = min(MOST_BYTES, _FREE + _MOST_GROWTH * packed)
    if unpacked > most:
        raise DataError(
            f"{source} unpacks to more than {most >> 20} MB out of {packed:,} bytes, which no table does; give the "
            f"rows in smaller files"
        )


def _whole(path: Path, source: str) -> bytes:
    try:
        if path == STANDARD_INPUT:
            data = sys.stdin.buffer.read(MOST_BYTES + 1)
        else:
            with path.open("rb") as file:
                data = file.read(MOST_BYTES + 1)
    except FileNotFoundError as error:
        raise DataError(f"{source} does not exist; give a file with labelled rows") from error
    except IsADirectoryError as error:
        inside = sorted(each.name for each in path.iterdir() if each.is_file())
        raise DataError(f"{source} is a folder; give one of its files: {offered(inside)}") from error
    except (OSError, ValueError) as error:
        raise DataError(f"{source} cannot be read: {getattr(error, 'strerror', None) or error}; give a file") from error
    if len(data) > MOST_BYTES:
        raise DataError(f"{source} has more than {MOST_BYTES >> 20} MB; give the rows in smaller files")
    return data


def _unpacking(data: bytes) -> Callable[[Content], Content] | None:
    if data.startswith(_GZIP):
        return _from_gzip
    if data.startswith(_ZSTD):
        return _from_zstd
    if data.startswith((_ZIP, _EMPTY_ZIP)) and not is_workbook(data):
        return _from_zip
    return None


def _bounded(content: Content, source: str, read: Callable[[int], bytes]) -> bytes:
    """All that `read` gives, a step at a time, as long as it stays within bounds."""
    parts: list[bytes] = []
    size = 0
    while part := read(_STEP):
        parts.append(part)
        size += len(part)
        within_bounds(source, len(content.data), size)
    return b"".join(parts)


def _inner_suffix(content: Content) -> str:
    return Path(content.source.removesuffix(content.suffix)).suffix.lower()


def _from_gzip(content: Content) -> Content:
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(content.data)) as file:
            data = _bounded(content, content.source, file.read)
    except (EOFError, OSError, zlib.error) as error:
        raise _damaged(content.source, "gzip", error) from error
    return Content(source=content.source, suffix=_inner_suffix(content), data=data)


def _from_zstd(content: Content) -> Content:
    import pyarrow as pa

    try:
        with pa.CompressedInputStream(pa.BufferReader(content.data), "zstd") as file:
            data = _bounded(content, content.source, file.read)
    except (pa.ArrowException, OSError) as error:
        raise _damaged(content.source, "zstd", error) from error
    return Content(source=content.source, suffix=_inner_suffix(content), data=data)


def _from_zip(content: Content) -> Content:
    try:
        with zipfile.ZipFile(io.BytesIO(content.data)) as archive:
            files = [each for each in archive.infolist() if not each.is_dir() and not _beside_the_data(each.filename)]
            inside = {each.filename for each in files}
            what = next((what for part, what in _DOCUMENTS if part in inside), None)
            if what is not None:
                raise DataError(f"{content.source} is {what}; save it as .xlsx or CSV")
            if len(files) != 1:
                names = offered([each.filename for each in files])
                raise DataError(
                    f"{content.source} holds {len(files)} files: {names}; unpack it and give the one you mean"
                )
            only = files[0]
            source = f"{content.source} ({quoted(only.filename)[1:-1]})"
            if only.flag_bits & 1:
                raise DataError(f"{source} is locked with a password; unpack it first")
            with archive.open(only) as file:
                data = _bounded(content, source, file.read)
    except _WRONG as error:
        raise _damaged(content.source, "zip", error) from error
    return Content(source=source, suffix=Path(only.filename).suffix.lower(), data=data)


def _beside_the_data(name: str) -> bool:
    """What a system puts beside the files of a folder."""
    own = Path(name).name
    return name.startswith("__MACOSX/") or own.startswith(".") or own.casefold() in {"thumbs.db", "desktop.ini"}


def _damaged(source: str, kind: str, error: Exception) -> DataError:
    return DataError(f"{source} is a damaged {kind} file ({str(error)[:100]}); pack or download it again")
