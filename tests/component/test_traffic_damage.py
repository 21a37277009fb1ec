"""Damaged files in a traffic log: each is set aside with its bytes, and everything else goes on."""

import errno
import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from perennial.continual.errors import DependencyUnreachable
from perennial.ops.traffic import TrafficLog, TrafficWriter
from perennial.ops.traffic.parquet import ParquetRows
from perennial.ops.traffic.quarantine import DamagedFile, examined
from tests.component.traffic_rows import at, columns, numbers, row_id

pytestmark = pytest.mark.component


def _foreign(path: Path) -> None:
    pq.write_table(pa.table({"a": [1]}), path)


def _foreign_stream(path: Path) -> None:
    table = pa.table({"a": [1]})
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)


def _flip(path: Path, place: float) -> None:
    data = bytearray(path.read_bytes())
    data[int(place * (len(data) - 1))] ^= 0xFF
    path.write_bytes(data)


def _filled(data: bytes) -> Callable[[Path], None]:
    def fill(path: Path) -> None:
        path.write_bytes(data)

    return fill


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


DAMAGES: dict[str, Callable[[Path], None]] = {
    "nothing in it": _filled(b""),
    "text": _filled(b"this is no table"),
    "one byte": _filled(b"P"),
    "half": lambda path: os.truncate(path, path.stat().st_size // 2),
    "without its end": lambda path: os.truncate(path, path.stat().st_size - 9),
    "random": _filled(os.urandom(5_000)),
    "zeros": _filled(bytes(5_000)),
    "another table": _foreign,
    "another stream": _foreign_stream,
    "a folder": _folder,
    "flipped at its start": lambda path: _flip(path, 0.0),
    "flipped in its middle": lambda path: _flip(path, 0.5),
    "flipped near its end": lambda path: _flip(path, 0.98),
}


def _log_of(root: Path) -> dict[str, Path]:
    """A log with two Parquet files, two sealed streams and a dead writer's; returns one of each kind."""
    for number in range(5):
        writer = TrafficWriter(root, "w")
        for row in range(4):
            writer.append(columns([number * 10 + row], first=number * 10 + row, key="ada" if row else "bob"))
        if number == 4:
            [live] = (root / "live").glob("w-*")
            live.rename(live.with_name("dead-1-0-0-0.arrows"))
        writer.close()
        if number < 2:
            TrafficLog(root).compact()
    return {
        "parquet": sorted((root / "parquet").iterdir())[0],
        "sealed": sorted((root / "sealed").iterdir())[0],
        "live": root / "live" / "dead-1-0-0-0.arrows",
    }


@pytest.mark.parametrize("kind", ["parquet", "sealed", "live"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_stops_nothing(tmp_path: Path, damage: str, kind: str) -> None:
    victim = _log_of(tmp_path)[kind]
    own = {"parquet": range(4), "sealed": range(20, 24), "live": range(40, 44)}[kind]
    others = {n for base in range(0, 50, 10) for n in range(base, base + 4)} - set(own)
    writer = TrafficWriter(tmp_path, "alive")
    writer.append(columns([90], first=90))
    readers = [TrafficLog(tmp_path), TrafficLog(tmp_path)]
    readers[0].read()
    DAMAGES[damage](victim)
    for log in readers:
        assert others | {90} <= set(numbers(log.read())) <= others | {90} | set(own)
        log.read(since=at(15), columns=["text"], last=3)
        log.count()
        assert numbers(log.lookup([row_id(90, 90)])) == [90]
    readers[0].compact()
    writer.append(columns([91], first=91))
    assert readers[1].erase("bob") >= 3
    readers[0].prune(at(5))
    readers[0].compact()
    left = {n for n in others if n % 10 and n > 5} | {90, 91}
    assert left <= set(numbers(TrafficLog(tmp_path).read())) <= left | set(own)
    writer.close()


@pytest.mark.parametrize("kind", ["parquet", "sealed", "live"])
def test_what_is_set_aside_keeps_its_bytes_and_says_why(tmp_path: Path, kind: str) -> None:
    victim = _log_of(tmp_path)[kind]
    victim.write_bytes(b"no table, and more than eight bytes")
    log = TrafficLog(tmp_path)
    log.read()
    log.compact()
    [found] = log.quarantined()
    assert found.source == f"{kind}/{victim.name}"
    assert found.cause
    assert (tmp_path / "quarantine" / found.name).read_bytes() == b"no table, and more than eight bytes"
    assert not victim.exists()
    log.prune(at(10**9))
    assert log.quarantined() == ()


def test_a_stream_damaged_in_its_middle_keeps_what_comes_before(tmp_path: Path) -> None:
    writer, log = TrafficWriter(tmp_path, "a"), TrafficLog(tmp_path)
    sizes = []
    for number in range(3):
        writer.append(columns([number], first=number))
        [stream] = (tmp_path / "live").iterdir()
        sizes.append(stream.stat().st_size)
    with stream.open("r+b") as file:
        file.seek(sizes[0])
        file.write(b"\xff\xff\xff\xff\x00\x10\x00\x00" + bytes(24))
    whole = stream.read_bytes()
    assert numbers(log.read()) == [0]
    writer.append(columns([3], first=3))  # its writer opens another
    assert numbers(log.read()) == [0, 3]
    [found] = log.quarantined()
    assert (tmp_path / "quarantine" / found.name).read_bytes() == whole
    writer.close()
    log.compact()
    assert numbers(TrafficLog(tmp_path).read()) == [0, 3]


@pytest.mark.parametrize("journal", ["", "{", "[]", "{}", '{"output": 5, "replaces": []}', "\x00\x01", "null"])
def test_a_damaged_journal_stops_nothing(tmp_path: Path, journal: str) -> None:
    _log_of(tmp_path)
    (tmp_path / "compaction.json").write_text(journal)
    log = TrafficLog(tmp_path)
    assert log.count() == 20
    assert log.compact() == 12
    assert (log.count(), [found.source.split("/")[1] for found in log.quarantined()]) == (20, ["compaction.json"])


def test_a_journal_never_leads_out_of_the_log(tmp_path: Path) -> None:
    _log_of(tmp_path / "log")
    precious = tmp_path / "precious"
    precious.write_text("mine")
    [output] = [path.name for path in sorted((tmp_path / "log" / "parquet").iterdir())][:1]
    journal = {"output": f"parquet/{output}", "replaces": ["../precious", "sealed/../../precious"]}
    (tmp_path / "log" / "compaction.json").write_text(json.dumps(journal))
    TrafficLog(tmp_path / "log").compact()
    assert precious.read_text() == "mine"


@pytest.mark.parametrize("name", ["x.parquet", "1-2.parquet", "a-b-c.parquet", "-1-2-x.parquet", "notes.txt"])
@pytest.mark.parametrize("folder", ["parquet", "sealed"])
def test_a_file_of_another_name_is_set_aside(tmp_path: Path, folder: str, name: str) -> None:
    _log_of(tmp_path)
    (tmp_path / folder / name).write_text("?")
    log = TrafficLog(tmp_path)
    assert log.count() == 20
    log.compact()
    assert (log.count(), [found.name for found in log.quarantined()]) == (20, [name])


@pytest.mark.parametrize("number", [errno.EIO, errno.EACCES, errno.ENOSPC, errno.EMFILE, errno.ENFILE, errno.ENOMEM])
def test_what_may_pass_is_no_damage(tmp_path: Path, number: int) -> None:
    with pytest.raises(DependencyUnreachable), examined(tmp_path):
        raise OSError(number, os.strerror(number), str(tmp_path))


@pytest.mark.parametrize("error", [OSError("Corrupt snappy data"), pa.ArrowInvalid("no magic"), KeyError("text")])
def test_what_makes_no_sense_is_damage(tmp_path: Path, error: Exception) -> None:
    with pytest.raises(DamagedFile), examined(tmp_path):
        raise error


def test_a_reader_without_descriptors_sets_nothing_aside(tmp_path: Path) -> None:
    import resource

    _log_of(tmp_path)
    log = TrafficLog(tmp_path)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        lowest = os.open("/dev/null", os.O_RDONLY)
        os.close(lowest)
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
        with pytest.raises((DependencyUnreachable, OSError)):
            log.read()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert (log.quarantined(), log.count()) == ((), 20)


@given(places=st.lists(st.tuples(st.floats(0, 1), st.integers(1, 255)), min_size=1, max_size=4), cut=st.floats(0, 1))
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@pytest.mark.parametrize("kind", ["parquet", "sealed"])
def test_any_damage_leaves_the_other_files_rows(
    tmp_path_factory: pytest.TempPathFactory, kind: str, places: list[tuple[float, int]], cut: float
) -> None:
    root = tmp_path_factory.mktemp("log")
    for number in range(2):
        writer = TrafficWriter(root, "w")
        writer.append(columns([number * 10, number * 10 + 1], first=number * 10))
        writer.close()
        if kind == "parquet":
            TrafficLog(root).compact()
    victim = sorted((root / kind).iterdir())[0]
    data = bytearray(victim.read_bytes())
    for place, flip in places:
        data[int(place * (len(data) - 1))] ^= flip
    victim.write_bytes(data if cut > 0.5 else data[: int(2 * cut * len(data))])
    log = TrafficLog(root)
    assert {10, 11} <= set(numbers(log.read()))
    log.compact()
    assert {10, 11} <= set(numbers(TrafficLog(root).read()))


def _newest_compacted(log: TrafficLog, root: Path) -> Path:
    """The newest Parquet file; where all were set aside, the next one that the writer's rows become."""
    end = time.monotonic() + 60
    while not (found := sorted((root / "parquet").iterdir(), key=lambda path: path.stat().st_mtime)):
        assert time.monotonic() < end
        time.sleep(0.02)
        log.compact()
    return found[-1]


def test_files_are_damaged_while_a_writer_appends_and_a_compactor_works(tmp_path: Path) -> None:
    _log_of(tmp_path)
    over, written = threading.Event(), list[int]()

    def write() -> None:
        writer, number = TrafficWriter(tmp_path, "w", rotate_rows=10), 100
        while not over.is_set() or number < 300:
            writer.append(columns([number], first=number))
            written.append(number)
            number += 1
            time.sleep(0.002)
        writer.close()

    thread = threading.Thread(target=write)
    thread.start()
    damaged = set[str]()
    log = TrafficLog(tmp_path)
    try:
        for damage in DAMAGES.values():
            victim = _newest_compacted(log, tmp_path)
            rows = set(numbers(ParquetRows.of(victim).read_all()))
            damaged |= {str(row) for row in rows}
            damage(victim)
            before = set(written)
            assert before - {int(row) for row in damaged} <= set(numbers(log.read()))
            log.compact()
    finally:
        over.set()
        thread.join()
    assert set(written) - {int(row) for row in damaged} <= set(numbers(TrafficLog(tmp_path).read()))
    assert log.quarantined()


@pytest.mark.parametrize("finds_it", ["a reader", "a compaction", "an erasure"])
def test_a_damaged_page_costs_its_group_of_rows_alone(
    tmp_path: Path, finds_it: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("perennial.ops.traffic.parquet._GROUP_ROWS", 5)
    writer = TrafficWriter(tmp_path, "w")
    for row in range(20):
        writer.append(columns([row], first=row, key="bob" if row in {3, 17} else "ada"))
    writer.close()
    log = TrafficLog(tmp_path)
    assert log.compact() == 20
    [path] = (tmp_path / "parquet").iterdir()
    before = ParquetRows.of(path)
    assert before.footer.num_row_groups == 4
    _damage_second_group(path)
    expected = [row for row in range(20) if row not in range(5, 10)]
    if finds_it == "an erasure":
        assert log.erase("bob") == 2
        expected = [row for row in expected if row not in {3, 17}]
    elif finds_it == "a compaction":
        monkeypatch.setattr("perennial.ops.traffic.compaction._SMALL_FILES", 1)
        for row in range(20, 24):
            writer = TrafficWriter(tmp_path, "w")
            writer.append(columns([row], first=row, key="ada"))
            writer.close()
            log.compact()
        expected += range(20, 24)
    assert numbers(log.read()) == expected
    assert numbers(TrafficLog(tmp_path).read()) == expected
    [kept] = log.quarantined()
    assert (kept.source, kept.copied) == (f"parquet/{path.name}", True)


def test_a_file_that_is_damaged_again_is_kept_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("perennial.ops.traffic.parquet._GROUP_ROWS", 5)
    writer = TrafficWriter(tmp_path, "w")
    for row in range(20):
        writer.append(columns([row], first=row))
    writer.close()
    TrafficLog(tmp_path).compact()
    [path] = (tmp_path / "parquet").iterdir()
    for times in (1, 2):
        _damage_second_group(path)
        assert len(numbers(TrafficLog(tmp_path).read())) == 20 - 5 * times
        kept = TrafficLog(tmp_path).quarantined()
        assert [file.copied for file in kept] == [True] * times
        assert len({file.size_bytes for file in kept}) == times


def test_where_the_disk_takes_no_copy_a_damaged_file_goes_to_the_quarantine_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("perennial.ops.traffic.parquet._GROUP_ROWS", 5)
    writer = TrafficWriter(tmp_path, "w")
    for row in range(10):
        writer.append(columns([row], first=row))
    writer.close()
    log = TrafficLog(tmp_path)
    log.compact()
    [path] = (tmp_path / "parquet").iterdir()
    _damage_second_group(path)
    content = path.read_bytes()

    def full(source: Path, target: Path) -> None:
        Path(target).write_bytes(content[:100])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("shutil.copyfile", full)
    assert numbers(log.read()) == []
    [kept] = log.quarantined()
    assert (kept.name, kept.copied) == (path.name, False)
    assert (tmp_path / "quarantine" / path.name).read_bytes() == content, "half a copy would stand for all of it"


def _damage_second_group(path: Path) -> None:
    footer = ParquetRows.of(path).footer
    page = footer.row_group(1).column(footer.schema.names.index("text"))
    _flip_byte(path, page.data_page_offset + page.total_compressed_size - 3)


def _flip_byte(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 0xFF
    path.write_bytes(data)
