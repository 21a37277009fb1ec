"""A stream that is read while others write it: what was read stays, and what was rewritten is read anew."""

import os
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest

from ops.traffic.segment import Stream


def _written(texts: list[str]) -> bytes:
    batch = pa.record_batch({"text": texts, "at": [datetime(2026, 3, 1, tzinfo=UTC)] * len(texts)})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as stream:
        for row in range(batch.num_rows):
            stream.write_batch(batch.slice(row, 1))
    return sink.getvalue().to_pybytes()[:-8]  # without the mark of its end, as one that is still written


def _texts(stream: Stream, path: Path) -> list[str]:
    with path.open("rb") as file:
        status = os.fstat(file.fileno())
        assert status.st_ino > 0
        table = stream.take(file.fileno())
    return [] if table is None else table.column("text").to_pylist()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "segment.arrows"


def test_a_stream_that_shrank_in_place_is_read_anew(path: Path) -> None:
    path.write_bytes(_written(["one", "two", "three"]))
    stream, inode = Stream(), path.stat().st_ino
    assert _texts(stream, path) == ["one", "two", "three"]
    path.write_bytes(_written(["four"]))
    assert path.stat().st_ino == inode
    assert _texts(stream, path) == ["four"]


def test_a_stream_of_the_same_size_that_was_rewritten_is_read_anew(path: Path) -> None:
    path.write_bytes(_written(["one", "two"]))
    stream = Stream()
    assert _texts(stream, path) == ["one", "two"]
    size, changed = path.stat().st_size, path.stat().st_mtime_ns
    path.write_bytes(_written(["six", "ten"]))
    os.utime(path, ns=(changed + 1, changed + 1))
    assert path.stat().st_size == size
    assert _texts(stream, path) == ["six", "ten"]
