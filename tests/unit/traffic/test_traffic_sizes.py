"""What is asked of a large log opens and rewrites only the files that it concerns."""

from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from perennial.continual.errors import ConfigurationError, DataError
from perennial.ops.traffic import TrafficLog, compaction
from perennial.ops.traffic.columns import to_batch
from perennial.ops.traffic.parquet import ParquetRows, rewrite_parquet, write_parquet
from perennial.ops.traffic.segment import PARQUET, SEALED, sealed_name
from tests.component.traffic_rows import at, columns, numbers, row_id

ROWS = 12_000  # of a file: more than a group, and too many to be joined at once


def file_of(root: Path, first: int, rows: int = ROWS, *, key: str | None = None, step: float = 1.0) -> Path:
    table = pa.Table.from_batches(
        [to_batch(columns([step * n for n in range(first, first + rows)], first=first, key=key), 3)]
    )
    (root / PARQUET).mkdir(parents=True, exist_ok=True)
    span = [int(at(step * n).timestamp() * 1e6) for n in (first, first + rows - 1)]
    path = root / PARQUET / sealed_name(span[0] - 2_000, span[1], f"{first:06d}", ".parquet")
    write_parquet(table, path, task="text_classification")
    return path


def later_format(root: Path, first: int) -> Path:
    path = file_of(root, first, 10)
    table = pq.read_table(path)
    metadata = {**table.schema.metadata, b"perennial.format": b"99"}
    pq.write_table(table.replace_schema_metadata(metadata), path)
    return path


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, tuple[int, ...], frozenset[str]]]:
    """Which groups and columns of which files were read."""
    seen: list[tuple[str, tuple[int, ...], frozenset[str]]] = []
    read = ParquetRows.read

    def noted(self: ParquetRows, groups: list[int], names: list[str]) -> pa.Table:
        if groups:
            seen.append((self.path.name, tuple(groups), frozenset(names)))
        return read(self, groups, names)

    monkeypatch.setattr(ParquetRows, "read", noted)
    return seen


def test_an_id_is_looked_for_in_the_group_that_may_hold_it(
    tmp_path: Path, opened: list[tuple[str, tuple[int, ...], frozenset[str]]]
) -> None:
    path = file_of(tmp_path, 0)
    wanted = [row_id(7_000, 7_000), row_id(7_000, 9_999_999)]
    assert numbers(TrafficLog(tmp_path).lookup(wanted, columns=["text"])) == [7_000]
    assert {(name, groups) for name, groups, _ in opened} == {(path.name, (1,))}


def test_an_erasure_reads_keys_alone_and_rewrites_the_files_that_hold_the_key(
    tmp_path: Path, opened: list[tuple[str, tuple[int, ...], frozenset[str]]]
) -> None:
    others = [file_of(tmp_path, 0, key="ann"), file_of(tmp_path, 30_000, key="zoe"), file_of(tmp_path, 60_000)]
    mine = file_of(tmp_path, 90_000, 10, key="me")
    before = [path.stat() for path in others]
    log = TrafficLog(tmp_path)
    assert log.rows_of("me").num_rows == 10
    assert log.erase("me") == 10
    assert {name for name, _, _ in opened} == {mine.name}, "the least and greatest keys tell that the others lack it"
    assert not mine.exists()
    assert [(path.stat().st_ino, path.stat().st_mtime_ns) for path in others] == [
        (status.st_ino, status.st_mtime_ns) for status in before
    ]
    file_of(tmp_path, 90_000, 10, key="me")
    opened.clear()
    assert (log.erase("moe"), opened) == (0, [])


def test_a_file_whose_keys_lie_around_is_searched_by_its_keys_alone(
    tmp_path: Path, opened: list[tuple[str, tuple[int, ...], frozenset[str]]]
) -> None:
    table = pa.Table.from_batches([to_batch({**columns(range(3)), "key": ["a", None, "z"]}, 3)])
    (tmp_path / PARQUET).mkdir()
    span = [int(at(n).timestamp() * 1e6) for n in (-1, 3)]
    write_parquet(table, tmp_path / PARQUET / sealed_name(*span, "0", ".parquet"), task="text_classification")
    assert TrafficLog(tmp_path).erase("me") == 0
    assert {names for _, _, names in opened} == {frozenset({"key"})}
    assert TrafficLog(tmp_path).erase("z") == 1


def test_what_is_too_old_goes_unread_and_what_lies_across_is_rewritten(
    tmp_path: Path, opened: list[tuple[str, tuple[int, ...], frozenset[str]]]
) -> None:
    old, across, new = file_of(tmp_path, 0), file_of(tmp_path, ROWS), file_of(tmp_path, 2 * ROWS)
    log = TrafficLog(tmp_path)
    assert log.prune(at(ROWS + 100)) == ROWS + 100
    assert {name for name, _, _ in opened} == {across.name}
    assert (old.exists(), across.exists(), new.exists()) == (False, True, True)
    kept = log.read(columns=["text"])
    assert numbers(kept) == list(range(ROWS + 100, 3 * ROWS))


def test_a_file_that_is_rewritten_while_it_is_read_is_read_anew_and_not_taken_for_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file_of(tmp_path, 0)
    read, rewritten = ParquetRows.read, list[int]()

    def late(self: ParquetRows, groups: list[int], names: list[str]) -> pa.Table:
        if groups and not rewritten:
            rewritten.append(-1)
            rewritten.append(TrafficLog(tmp_path).prune(at(7_000)))
        return read(self, groups, names)

    monkeypatch.setattr(ParquetRows, "read", late)
    log = TrafficLog(tmp_path)
    assert numbers(log.read(columns=["text"])) == list(range(7_000, ROWS))
    assert rewritten == [-1, 7_000]
    assert log.quarantined() == ()


def test_a_file_of_which_no_row_is_kept_is_gone_at_once(tmp_path: Path) -> None:
    path = file_of(tmp_path, 0, 10)
    assert rewrite_parquet([ParquetRows.of(path)], path, kept=lambda rows: rows.slice(0, 0), joined=False) == 0
    assert list((tmp_path / PARQUET).iterdir()) == [], "a reader would take one without rows for damaged"


def test_files_are_joined_to_large_ones_row_for_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compaction, "_LARGE_ROWS", 5 * ROWS)
    for number in range(6):
        file_of(tmp_path, number * ROWS, key=f"k{number}")
    file_of(tmp_path, 500_000, ROWS, step=0.13)  # among the times of the others
    log = TrafficLog(tmp_path)
    before = log.read()
    log.bar("k2", at(10**6))
    log.compact()
    files = sorted((tmp_path / PARQUET).iterdir())
    assert len(files) == 3
    after = TrafficLog(tmp_path).read()
    assert after.num_rows == before.num_rows - ROWS, "an erased key's rows are left behind"
    assert after.equals(before.filter(pa.array([key != "k2" for key in before["key"].to_pylist()])))
    log.compact()
    assert sorted((tmp_path / PARQUET).iterdir()) == files


@pytest.mark.parametrize(("files_large", "files"), [(100.0, [5, 3, 3]), (1.5, [7, 7, 7])], ids=["rows", "bytes"])
def test_a_backlog_is_joined_by_several_compactions_to_files_that_are_not_too_large(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files_large: float, files: list[int]
) -> None:
    largest = max(file_of(tmp_path, number * 20, 20).stat().st_size for number in range(7))
    sizes = {"_SMALL_ROWS": 10, "_LARGE_ROWS": 60, "_LARGE_BYTES": files_large * largest}
    for name, value in {**sizes, "_JOIN_S": 0.0}.items():
        monkeypatch.setattr(compaction, name, value)
    log = TrafficLog(tmp_path)
    before, counts = log.read(), list[int]()
    for _ in range(3):
        log.compact()
        counts.append(len(list((tmp_path / PARQUET).iterdir())))
    assert counts == files
    assert log.read().equals(before)


def test_a_file_of_a_later_release_stops_neither_compaction_nor_retention(tmp_path: Path) -> None:
    foreign, new = later_format(tmp_path, 0), later_format(tmp_path, 500_000)
    batch = to_batch(columns([20, 21], first=20), 3)
    (tmp_path / SEALED).mkdir()
    sealed = tmp_path / SEALED / sealed_name(*(int(at(n).timestamp() * 1e6) for n in (19, 21)), "w-1-1-1-1", ".arrows")
    with pa.OSFile(str(sealed), "wb") as sink, pa.ipc.new_stream(sink, batch.schema) as stream:
        stream.write_batch(batch)
    log = TrafficLog(tmp_path, task="text_classification")
    assert log.compact() == 2
    with pytest.raises(ConfigurationError, match="format 99"):
        log.erase("nobody")
    log.prune(at(0) + timedelta(hours=1))
    assert not foreign.exists(), "its name tells that all of it is too old"
    assert new.exists()


def test_the_first_rows_are_read_from_the_oldest_files_alone(
    tmp_path: Path, opened: list[tuple[str, tuple[int, ...], frozenset[str]]]
) -> None:
    oldest, among = file_of(tmp_path, 0), file_of(tmp_path, 40_000, 10, step=0.1)
    for first in (100_000, 200_000):
        file_of(tmp_path, first)
    log = TrafficLog(tmp_path)
    whole = numbers(log.read(columns=["text"]))
    opened.clear()
    for first in (0, 1, 4_003, 4_010, ROWS):
        assert numbers(log.read(columns=["text"], first=first)) == whole[:first]
    assert {name for name, _, _ in opened} == {oldest.name, among.name}
    since, until = at(11_000), at(100_005)
    assert numbers(log.read(since, until, columns=["text"], first=1_003)) == [
        *range(11_000, ROWS),
        *range(100_000, 100_003),
    ]
    assert numbers(log.read(since, until, columns=["text"], first=10_000))[-1] == 100_004
    with pytest.raises(DataError, match="ask for one"):
        log.read(last=1, first=1)
