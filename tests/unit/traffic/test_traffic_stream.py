"""A stream that is read while others write it: what was read stays, and what was rewritten is read anew."""

import os
from pathlib import Path

import pyarrow as pa
import pytest

from perennial.ops.traffic.columns import to_batch
from perennial.ops.traffic.segment import Stream
from tests.component.traffic_rows import columns, numbers


def _written(rows: list[int]) -> bytes:
    batches = [to_batch(columns([number], first=number), None) for number in rows]
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batches[0].schema) as stream:
        for batch in batches:
            stream.write_batch(batch)
    return sink.getvalue().to_pybytes()[:-8]  # without the mark of its end, as one that is still written


def _numbers(stream: Stream, path: Path) -> list[int]:
    with path.open("rb") as file:
        status = os.fstat(file.fileno())
        assert status.st_ino > 0
        table = stream.take(file.fileno())
    return [] if table is None else numbers(table)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "segment.arrows"


def test_a_stream_that_shrank_in_place_is_read_anew(path: Path) -> None:
    path.write_bytes(_written([1, 2, 3]))
    stream, inode = Stream(), path.stat().st_ino
    assert _numbers(stream, path) == [1, 2, 3]
    path.write_bytes(_written([4]))
    assert path.stat().st_ino == inode
    assert _numbers(stream, path) == [4]


def test_a_stream_of_the_same_size_that_was_rewritten_is_read_anew(path: Path) -> None:
    path.write_bytes(_written([1, 2]))
    stream = Stream()
    assert _numbers(stream, path) == [1, 2]
    size, changed = path.stat().st_size, path.stat().st_mtime_ns
    path.write_bytes(_written([6, 7]))
    os.utime(path, ns=(changed + 1, changed + 1))
    assert path.stat().st_size == size
    assert _numbers(stream, path) == [6, 7]
