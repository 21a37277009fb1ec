"""The traffic log on the real filesystem: what is read, and what rewriting leaves."""

import os
import threading
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from perennial.continual.errors import ConfigurationError, DataError
from perennial.ops.traffic import TrafficLog, TrafficWriter, schema
from perennial.ops.traffic.segment import lock
from tests.component.traffic_rows import at, columns, numbers, row_id

pytestmark = pytest.mark.component


def files(root: Path, folder: str) -> list[Path]:
    return sorted(path for path in (root / folder).glob("*") if not path.name.startswith("."))


def write(root: Path, seconds: list[float], **facts: Any) -> None:
    """Write rows, two a batch, into a stream that is sealed at once."""
    first = facts.pop("first", 0)
    writer = TrafficWriter(root, "test")
    for place in range(0, len(seconds), 2):
        writer.append(columns(seconds[place : place + 2], first=first + place, **facts))
    writer.close()


def test_missing_folder_is_an_empty_log(tmp_path: Path) -> None:
    log = TrafficLog(tmp_path / "nothing")
    assert log.read().schema == schema()
    assert log.read(columns=["text", "at"]).column_names == ["text", "at"]
    assert log.lookup([row_id(0, 0)]).num_rows == 0
    assert (log.count(), log.compact(), log.erase("k"), log.prune(at(0))) == (0, 0, 0, 0)
    assert not (tmp_path / "nothing").exists()


def test_rows_are_there_when_append_returns(tmp_path: Path) -> None:
    writer, log = TrafficWriter(tmp_path, "a"), TrafficLog(tmp_path)
    for number in range(5):
        writer.append(columns([number], first=number))
        assert numbers(log.read()) == list(range(number + 1))
    assert log.read().schema == schema(3)
    assert log.read()["embedding"].to_pylist()[4] == [4.0, 4.0, 4.0]
    writer.close()


def test_empty_batch_writes_nothing(tmp_path: Path) -> None:
    writer = TrafficWriter(tmp_path, "a")
    writer.append(columns([]) | {"embedding": None})
    writer.close()
    assert list(tmp_path.iterdir()) == []


def test_stream_rotates_by_rows_and_time(tmp_path: Path) -> None:
    writer = TrafficWriter(tmp_path, "a", rotate_rows=4)
    for number in range(0, 10, 2):
        writer.append(columns([number, number + 1], first=number))
    assert (len(files(tmp_path, "sealed")), len(files(tmp_path, "live"))) == (2, 1)
    writer.append(columns([20], first=20, dimension=7))
    assert (len(files(tmp_path, "sealed")), len(files(tmp_path, "live"))) == (2, 2), "one stream a dimension"
    writer.append(columns([21], first=21, dimension=None))
    assert len(files(tmp_path, "live")) == 2, "rows without embeddings fit any stream"
    writer.close()
    quick = TrafficWriter(tmp_path, "b", rotate_s=1e-6)
    quick.append(columns([22], first=22))
    quick.append(columns([23], first=23))
    assert len(files(tmp_path, "sealed")) == 5
    quick.append(columns([24], first=24, dimension=7))
    assert (len(files(tmp_path, "sealed")), len(files(tmp_path, "live"))) == (6, 1), "also one of another dimension"
    quick.close()
    assert (len(files(tmp_path, "sealed")), files(tmp_path, "live")) == (7, [])
    assert numbers(TrafficLog(tmp_path).read()) == [*range(10), 20, 21, 22, 23, 24]


def test_two_dimensions_by_turns_make_two_files_at_every_stage(tmp_path: Path) -> None:
    """A canary, or a fallback, between versions of two encoders changes sides with each batch."""
    writer, log = TrafficWriter(tmp_path, "a"), TrafficLog(tmp_path)
    for number in range(200):
        writer.append(columns([number / 10], first=number, version=1 + number % 2, dimension=(3, 5)[number % 2]))
    assert (len(files(tmp_path, "live")), files(tmp_path, "sealed")) == (2, [])
    assert numbers(log.read()) == list(range(200))
    writer.close()
    assert log.compact() == 200
    assert len(files(tmp_path, "parquet")) == 2
    assert (numbers(log.read()), log.count()) == (list(range(200)), 200)
    assert log.read(version=1)["embedding"].to_pylist()[1] == [2.0] * 3
    assert log.read(version=2)["embedding"].to_pylist()[1] == [3.0] * 5
    assert numbers(log.read(last=3)) == [197, 198, 199]


def test_small_files_of_two_dimensions_are_joined_by_dimension(tmp_path: Path) -> None:
    log = TrafficLog(tmp_path)
    for number in range(40):
        write(tmp_path, [number], first=number, dimension=(3, 5)[number % 2])
        log.compact()
    assert len(files(tmp_path, "parquet")) < 10
    assert (numbers(log.read()), log.count()) == (list(range(40)), 40)


def test_a_writer_keeps_few_streams_open(tmp_path: Path) -> None:
    writer = TrafficWriter(tmp_path, "a")
    for number in range(12):
        writer.append(columns([number], first=number, dimension=2 + number % 6))
    assert len(files(tmp_path, "live")) == 3
    assert numbers(TrafficLog(tmp_path).read()) == list(range(12))
    writer.close()
    assert files(tmp_path, "live") == []


def test_writer_goes_on_in_a_new_stream_after_close(tmp_path: Path) -> None:
    writer = TrafficWriter(tmp_path, "odd name/../x")
    writer.append(columns([0]))
    writer.close()
    writer.close()
    writer.append(columns([1], first=1))
    assert numbers(TrafficLog(tmp_path).read()) == [0, 1]
    assert [path.parent for path in files(tmp_path, "live")] == [tmp_path / "live"]
    writer.close()


def test_writer_refuses_limits_that_make_no_sense(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="0 rows"):
        TrafficWriter(tmp_path, "a", rotate_rows=0)


def test_read_bounds_since_included_until_not(tmp_path: Path) -> None:
    write(tmp_path, [0, 1, 2, 3, 4, 5])
    log = TrafficLog(tmp_path)
    for _ in ("sealed", "parquet"):
        assert numbers(log.read(since=at(2), until=at(4))) == [2, 3]
        assert numbers(log.read(since=at(5))) == [5]
        assert numbers(log.read(until=at(0))) == []
        assert log.read(since=at(9)).schema == schema()
        log.compact()


def test_read_orders_rows_of_all_files_by_time_and_id(tmp_path: Path) -> None:
    write(tmp_path, [5, 1, 1, 9], first=0)
    TrafficLog(tmp_path).compact()
    write(tmp_path, [0, 5, 7], first=10)
    live = TrafficWriter(tmp_path, "live")
    live.append(columns([6, 2], first=20))
    table = TrafficLog(tmp_path).read()
    assert numbers(table) == [10, 1, 2, 21, 0, 11, 20, 12, 3]
    live.close()


def test_last_keeps_the_newest_of_what_is_left(tmp_path: Path) -> None:
    write(tmp_path, [float(i) for i in range(10)], version=1)
    TrafficLog(tmp_path).compact()
    write(tmp_path, [9, 10, 11], first=10, version=2)
    log = TrafficLog(tmp_path)
    assert numbers(log.read(last=4)) == [9, 10, 11, 12]
    assert numbers(log.read(last=2, version=1)) == [8, 9]
    assert numbers(log.read(last=3, until=at(10))) == [8, 9, 10]
    assert numbers(log.read(last=0)) == []
    assert log.read(last=99, version=3).num_rows == 0


def test_read_leaves_files_of_other_times_closed(tmp_path: Path) -> None:
    write(tmp_path, [0, 1, 2])
    log = TrafficLog(tmp_path)
    log.compact()
    write(tmp_path, [100, 101], first=10)
    write(tmp_path, [200, 201], first=20)
    for folder in ("parquet", "sealed"):
        files(tmp_path, folder)[0].write_bytes(b"whoever reads this fails")
    assert numbers(log.read(since=at(150))) == [20, 21]
    assert numbers(log.read(last=2)) == [20, 21]
    assert numbers(log.lookup([row_id(200, 20)])) == [20]
    assert numbers(log.read()) == [20, 21]
    assert [found.source.split("/")[0] for found in log.quarantined()] == ["parquet"]


def test_lookup_finds_rows_wherever_they_are(tmp_path: Path) -> None:
    write(tmp_path, [0, 1, 2])
    log = TrafficLog(tmp_path)
    log.compact()
    write(tmp_path, [3, 4], first=3)
    live = TrafficWriter(tmp_path, "live")
    live.append(columns([5], first=5))
    ids = [row_id(second, second) for second in (5, 1, 3, 1)]
    assert numbers(log.lookup([*ids, row_id(1, 77), "", "no id of ours", "0" * 32])) == [1, 3, 5]
    assert log.lookup(ids, columns=["key", "prediction"]).column_names == ["key", "prediction"]
    assert log.lookup([]).schema == schema()
    live.close()


@pytest.mark.parametrize("call", ["read", "lookup"])
def test_unknown_columns_are_refused(tmp_path: Path, call: str) -> None:
    log = TrafficLog(tmp_path)
    with pytest.raises(DataError, match="colour"):
        log.read(columns=["colour"]) if call == "read" else log.lookup([], columns=["colour"])


def test_times_without_zone_and_negative_last_are_refused(tmp_path: Path) -> None:
    log = TrafficLog(tmp_path)
    naive = datetime(2026, 3, 1)  # noqa: DTZ001
    with pytest.raises(DataError, match="no time zone"):
        log.read(since=naive)
    with pytest.raises(DataError, match="no time zone"):
        log.prune(naive)
    with pytest.raises(DataError, match="last -1"):
        log.read(last=-1)


def test_compaction_keeps_every_value_and_null(tmp_path: Path) -> None:
    writer = TrafficWriter(tmp_path, "a", dimension=3)
    writer.append(columns([0, 1], key="k", dimension=None))
    writer.append(columns([2, 3], first=2))
    writer.append(columns([4], first=4, dimension=None))
    writer.close()
    log = TrafficLog(tmp_path)
    before = log.read()
    assert log.compact() == 5
    assert log.read() == before
    assert [row is None for row in log.read()["embedding"].to_pylist()] == [True, True, False, False, True]
    assert (files(tmp_path, "sealed"), len(files(tmp_path, "parquet")), log.compact()) == ([], 1, 0)


def test_rows_of_compacted_streams_are_not_kept_in_memory(tmp_path: Path) -> None:
    write(tmp_path, [0, 1, 2])
    live, log = TrafficWriter(tmp_path, "live"), TrafficLog(tmp_path)
    live.append(columns([3], first=3))
    assert numbers(log.read()) == [0, 1, 2, 3]
    assert len(log._streams) == 2
    log.compact()
    assert numbers(log.read()) == [0, 1, 2, 3]
    assert len(log._streams) == 1  # the live one
    live.close()


def test_what_a_reader_keeps_of_waiting_streams_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for second in range(6):
        write(tmp_path, [second], first=second)
    largest = max(path.stat().st_size for path in files(tmp_path, "sealed"))
    monkeypatch.setattr("perennial.ops.traffic.log._STREAM_BYTES", 2 * largest)
    log = TrafficLog(tmp_path)
    for _ in range(2):
        assert numbers(log.read()) == [0, 1, 2, 3, 4, 5]
        assert 1 <= len(log._streams) <= 2
        assert log._held == sum(stream.size for stream in log._streams.values()) <= 2 * largest
    log.compact()
    assert numbers(log.read()) == [0, 1, 2, 3, 4, 5]
    assert (log._held, len(log._streams)) == (0, 0)


def test_compaction_keeps_embeddings_of_each_dimension(tmp_path: Path) -> None:
    writer = TrafficWriter(tmp_path, "a")
    writer.append(columns([0], version=1, dimension=4))
    writer.append(columns([1], first=1, version=2, dimension=2))
    writer.close()
    log = TrafficLog(tmp_path)
    assert log.compact() == 2
    assert log.read(version=1)["embedding"].to_pylist() == [[0.0] * 4]
    assert log.read(version=2)["embedding"].to_pylist() == [[1.0] * 2]
    assert log.read()["embedding"].to_pylist() == [None, [1.0] * 2]


def test_compaction_leaves_young_and_live_streams(tmp_path: Path) -> None:
    write(tmp_path, [0])
    live = TrafficWriter(tmp_path, "live")
    live.append(columns([1], first=1))
    log = TrafficLog(tmp_path)
    assert log.compact(min_age_s=60) == 0
    assert log.compact() == 1
    assert len(files(tmp_path, "live")) == 1
    live.close()


def test_small_files_are_joined_in_time(tmp_path: Path) -> None:
    log = TrafficLog(tmp_path)
    for number in range(20):
        write(tmp_path, [number], first=number)
        log.compact()
    assert numbers(log.read()) == list(range(20))
    assert len(files(tmp_path, "parquet")) < 10
    assert log.count() == 20


def test_duckdb_reads_the_compacted_files(tmp_path: Path) -> None:
    write(tmp_path, [0, 1, 2, 3])
    TrafficLog(tmp_path).compact()
    source = f"'{tmp_path}/parquet/*.parquet'"
    found = duckdb.sql(f'select text, embedding[1] from {source} where version = 1 order by "at"')
    assert found.fetchall() == [("text 0", 0.0), ("text 1", 1.0), ("text 2", 2.0), ("text 3", 3.0)]


def test_erase_removes_a_key_from_every_kind_of_file(tmp_path: Path) -> None:
    log = TrafficLog(tmp_path)
    write(tmp_path, [0, 1], key="ada")
    write(tmp_path, [2, 3], first=2, key="bob")
    log.compact()
    write(tmp_path, [4], first=4, key="ada")
    writer = TrafficWriter(tmp_path, "live")
    writer.append(columns([5], first=5, key="ada"))
    writer.append(columns([6, 7], first=6))
    assert log.erase("ada") == 4
    assert numbers(log.read()) == [2, 3, 6, 7]
    writer.append(columns([8], first=8, key="bob"))
    assert numbers(log.read()) == [2, 3, 6, 7, 8], "the writer goes on in a new stream"
    assert numbers(TrafficLog(tmp_path).read()) == [2, 3, 6, 7, 8]
    assert b"ada" not in b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert (log.erase("ada"), log.erase("nobody")) == (0, 0)
    writer.close()


def test_prune_removes_exactly_the_older_rows(tmp_path: Path) -> None:
    log = TrafficLog(tmp_path)
    write(tmp_path, [0, 1, 2, 3])
    log.compact()
    write(tmp_path, [1, 5], first=10)
    writer = TrafficWriter(tmp_path, "live")
    writer.append(columns([2, 6], first=20))
    assert log.prune(at(3)) == 5
    assert numbers(log.read()) == [3, 11, 21]
    assert log.prune(at(100)) == 3
    assert (log.count(), log.read().num_rows) == (0, 0)
    assert [files(tmp_path, folder) for folder in ("live", "sealed", "parquet")] == [[], [], []]
    writer.close()


Steps = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.lists(st.integers(0, 30), min_size=1, max_size=4), st.sampled_from("ab")),
        st.tuples(st.just("close"), st.just([]), st.just("")),
        st.tuples(st.just("compact"), st.just([]), st.just("")),
        st.tuples(st.just("erase"), st.just([]), st.sampled_from("ab")),
        st.tuples(st.just("prune"), st.lists(st.integers(0, 20), min_size=1, max_size=1), st.just("")),
    ),
    max_size=14,
)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True)
@given(steps=Steps, since=st.integers(0, 30), last=st.integers(0, 6))
def test_log_equals_a_list_after_any_steps(
    tmp_path_factory: pytest.TempPathFactory, steps: list[Any], since: int, last: int
) -> None:
    root = tmp_path_factory.mktemp("log")
    writers = [TrafficWriter(root, name, rotate_rows=5) for name in ("a", "b")]
    log, model, first = TrafficLog(root), [], 0
    for step, (kind, seconds, key) in enumerate(steps):
        if kind == "append":
            writers[step % 2].append(columns(seconds, first=first, key=key))
            model += [(at(s), row_id(s, first + i), key) for i, s in enumerate(seconds)]
            first += len(seconds)
        elif kind == "close":
            writers[step % 2].close()
        elif kind == "compact":
            log.compact()
        else:
            gone = {row for row in model if (row[2] == key if kind == "erase" else row[0] < at(seconds[0]))}
            assert (log.erase(key) if kind == "erase" else log.prune(at(seconds[0]))) == len(gone)
            model = [row for row in model if row not in gone]
    model.sort()
    for reader in (log, TrafficLog(root)):
        assert reader.read()["prediction_id"].to_pylist() == [row[1] for row in model]
        late = [row[1] for row in model if row[0] >= at(since)]
        assert reader.read(since=at(since))["prediction_id"].to_pylist() == late
        tail = late[len(late) - min(last, len(late)) :]
        assert reader.read(since=at(since), last=last)["prediction_id"].to_pylist() == tail
        assert reader.lookup([row[1] for row in model[::2]])["prediction_id"].to_pylist() == [r[1] for r in model[::2]]
        assert reader.count() == len(model)
    for writer in writers:
        writer.close()


def test_embedding_values_survive_the_way_to_parquet(tmp_path: Path) -> None:
    values = np.random.default_rng(7).standard_normal((64, 16)).astype(np.float32)
    writer = TrafficWriter(tmp_path, "a")
    writer.append(columns([float(i) for i in range(64)]) | {"embedding": values})
    writer.close()
    log = TrafficLog(tmp_path)
    log.compact()
    read = log.read(columns=["embedding"])["embedding"].combine_chunks()
    assert np.array_equal(read.flatten().to_numpy().reshape(64, 16), values.astype(np.float16))


def test_a_barred_key_brings_no_row_from_before_into_the_log(tmp_path: Path) -> None:
    log, open_writer = TrafficLog(tmp_path), TrafficWriter(tmp_path, "a")
    open_writer.append(columns([0], key="me"))
    log.bar("me", at(10))
    assert log.count() == 1, "what is there already goes by `erase`"
    assert log.erase("me") == 1
    for writer in (open_writer, TrafficWriter(tmp_path, "b")):  # one that was there, and one that starts later
        writer.append(columns([1, 2], first=1, key="me"))
        writer.append(columns([3, 20], first=3) | {"key": ["you", "me"]})
        writer.append(columns([4], first=5, key="you"))
        writer.close()
    assert numbers(log.read()) == [3, 3, 5, 5, 4, 4]
    assert b"me" not in (tmp_path / "erased.json").read_bytes().replace(b"erased", b"")


def test_a_barred_key_waits_for_a_write_under_way_and_is_known_to_the_next(tmp_path: Path) -> None:
    writer = TrafficWriter(tmp_path, "a")
    writer.append(columns([0], key="me"))
    [stream] = files(tmp_path, "live")
    held = os.open(stream, os.O_RDONLY)
    assert lock(held, 1.0)  # as a write under way
    barring = threading.Thread(target=TrafficLog(tmp_path).bar, args=("me", at(10)))
    barring.start()
    barring.join(0.3)
    assert barring.is_alive()
    os.close(held)
    barring.join()
    writer.append(columns([1], first=1, key="me"))
    assert numbers(TrafficLog(tmp_path).read()) == [0]
    writer.close()


def test_compaction_leaves_out_what_a_writer_that_knew_nothing_brought(tmp_path: Path) -> None:
    write(tmp_path, [0.0, 1.0], key="me")
    write(tmp_path, [2.0], first=2)
    log = TrafficLog(tmp_path)
    log.bar("me", at(10))
    assert log.compact() == 1
    assert numbers(log.read()) == [2]
