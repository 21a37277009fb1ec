"""Files of earlier formats stay part of the log beside those of this one; later formats are left alone."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from perennial.continual.errors import ConfigurationError
from perennial.ops.traffic import TrafficLog, TrafficWriter, columns_of, schema
from tests.component.old_traffic import first_table, second_table, write_parquet, write_stream
from tests.component.traffic_rows import at, columns, numbers, row_id

NAMES = [*columns_of(), "embedding"]


class Mixed:
    """A log with rows of the first format in each folder, and one row of this one; row n was logged at second n."""

    def __init__(self, root: Path, *, dimension: int | None, with_redaction: bool) -> None:
        self.root, self.log = root, TrafficLog(root)

        def old(first: int, *texts: str, key: str | None = None) -> pa.Table:
            cells = columns(range(first, first + len(texts)), first=first, key=key, dimension=dimension, version=first)
            rows = cells | {"text": list(texts), "redacted": ["[" in text for text in texts]}
            return first_table(rows, with_redaction=with_redaction)

        self.parquet = write_parquet(root / "parquet", old(0, "to [email]", "[EXTERNAL] mail", key="me"))
        if with_redaction:
            self.redacted = [True, True, True, False, False]
        else:  # which only a placeholder shows
            self.redacted = [True, False, True, False, False]
        self.sealed = write_stream(root / "sealed", old(2, "call [phone]"))
        self.live = write_stream(root / "live", old(3, "nothing", key="me"))
        self.writer = TrafficWriter(root, "today")
        self.writer.append(columns([4], first=4, dimension=dimension) | {"text": ["literally [card]"]})


@pytest.fixture(params=[(3, True), (3, False), (None, True), (None, False)], ids=str)
def mixed(request: pytest.FixtureRequest, tmp_path: Path) -> Mixed:
    """Both kinds of first files, with and without embeddings."""
    dimension, with_redaction = request.param
    return Mixed(tmp_path, dimension=dimension, with_redaction=with_redaction)


def formats(root: Path) -> list[tuple[str, bytes | None]]:
    """The folder and the stated format of each file."""
    found = []
    for path in sorted(root.glob("*/*.*")):
        if path.suffix == ".parquet":
            metadata = pq.read_schema(path).metadata
        else:
            with pa.ipc.open_stream(path) as stream:
                metadata = stream.schema.metadata
        found.append((path.parent.name, (metadata or {}).get(b"perennial.format")))
    return found


def test_rows_of_both_formats_are_read_as_one_table(mixed: Mixed) -> None:
    everything = mixed.log.read()
    assert everything.column_names == NAMES
    assert everything["prediction"].to_pylist() == ["transfer"] * 5
    assert everything["redacted"].to_pylist() == mixed.redacted
    assert everything["text"].to_pylist()[0] == "to [email]"
    for names in (["redacted", "at"], ["prediction"], ["prediction", "redacted"]):
        assert mixed.log.read(columns=names) == everything.select(names)
        assert mixed.log.read(columns=names, last=4) == everything.select(names).slice(1)
    assert mixed.log.read(since=at(1), until=at(3)) == everything.slice(1, 2)
    assert mixed.log.read(columns=["at"], version=3)["at"].to_pylist() == [at(3)]
    found = mixed.log.lookup([row_id(0, 0), row_id(3, 3)], ["redacted", "prediction"])
    assert found["redacted"].to_pylist() == [True, False]
    assert (mixed.log.count(), mixed.log.quarantined()) == (5, ())


def test_compaction_writes_this_format_and_changes_no_row(mixed: Mixed) -> None:
    everything = mixed.log.read()
    mixed.live.rename(mixed.live.with_name("old-1-2-3-4.arrows"))  # its writer is gone
    mixed.writer.close()
    assert mixed.log.compact() == 3
    assert mixed.log.read() == TrafficLog(mixed.root).read() == everything
    assert formats(mixed.root) == [("parquet", None), ("parquet", b"3")]
    [new] = [path for path in (mixed.root / "parquet").glob("*") if path != mixed.parquet]
    stored = pq.read_schema(new)
    assert stored.names == NAMES
    assert stored.metadata[b"perennial.task"] == b"text_classification"


def test_small_files_of_both_formats_are_joined(mixed: Mixed) -> None:
    for second in range(10, 16):
        mixed.writer.append(columns([second], first=second))
        mixed.writer.close()
        mixed.log.compact()
    everything = mixed.log.read()
    mixed.log.compact()
    assert mixed.log.read() == everything
    assert {stated for folder, stated in formats(mixed.root) if folder == "parquet"} <= {None, b"3"}
    assert not mixed.parquet.exists() or len(list((mixed.root / "parquet").glob("*"))) < 8


def test_an_erasure_reaches_rows_of_the_first_format_in_every_folder(mixed: Mixed) -> None:
    assert mixed.log.distinct_keys() == {"me"}
    whose = mixed.log.bar("me", at(9))
    assert whose.column_names == ["prediction_id", "text"]
    assert whose["text"].to_pylist() == ["to [email]", "[EXTERNAL] mail", "nothing"]
    assert mixed.log.erase("me") == 3
    assert mixed.log.read(columns=["text"])["text"].to_pylist() == ["call [phone]", "literally [card]"]
    assert not any(b"nothing" in path.read_bytes() for path in mixed.root.glob("*/*"))


@pytest.mark.parametrize("folder", ["parquet", "sealed"])
def test_a_file_that_loses_some_rows_is_rewritten_in_this_format(tmp_path: Path, folder: str) -> None:
    rows = columns([0, 1], first=0) | {"key": ["me", "somebody"]}
    write = {"parquet": write_parquet, "sealed": write_stream}[folder]
    path = write(tmp_path / folder, first_table(rows))
    log = TrafficLog(tmp_path)
    assert (log.erase("me"), formats(tmp_path), path.exists()) == (1, [(folder, b"3")], True)
    kept = log.read()
    assert (numbers(kept), kept["prediction"].to_pylist()) == ([1], ["transfer"])
    assert (log.prune(at(9)), log.count()) == (1, 0)


@pytest.mark.parametrize("folder", ["parquet", "sealed", "live"])
@pytest.mark.parametrize("dimension", [3, None])
def test_a_file_of_the_second_format_tells_nothing_of_what_is_known(
    tmp_path: Path, folder: str, dimension: int | None
) -> None:
    write = write_parquet if folder == "parquet" else write_stream
    write(tmp_path / folder, second_table(columns([0, 1], dimension=dimension)))
    writer = TrafficWriter(tmp_path, "today")
    writer.append(columns([5], first=5, dimension=dimension))
    writer.close()
    log = TrafficLog(tmp_path)
    everything = log.read()
    assert everything.column_names == NAMES
    assert everything["known"].to_pylist() == [None, None, True]
    for names in (["known"], ["known", "at"], ["redacted", "known"]):
        assert log.read(columns=names) == everything.select(names)
    assert log.lookup([row_id(1, 1)], ["known", "text"]).to_pylist() == [{"known": None, "text": "text 1"}]
    assert (log.erase("nobody"), log.quarantined()) == (0, ())
    if folder == "live":
        [old] = (tmp_path / folder).glob("old-*")
        old.rename(old.with_name("old-1-2-3-4.arrows"))  # its writer is gone
    log.compact()
    assert TrafficLog(tmp_path).read() == everything


def later(path: Path) -> None:
    """Have a file say that a later release wrote it."""
    if path.suffix == ".parquet":
        table = pq.read_table(path)
        pq.write_table(table.replace_schema_metadata({b"perennial.format": b"4"}), path)
    else:
        table = pa.ipc.open_stream(path).read_all()
        newer = schema(3).with_metadata({b"perennial.format": b"4"})
        data = newer.serialize().to_pybytes() + table.to_batches()[0].serialize().to_pybytes()
        path.write_bytes(data)


def foreign(root: Path, folder: str) -> Path:
    """The log's first file, of a later release, with nine rows after it that are to be compacted."""
    writer = TrafficWriter(root, "w")
    writer.append(columns([0, 1]))
    if folder != "live":
        writer.close()
    if folder == "parquet":
        TrafficLog(root).compact()
    [path] = (root / folder).glob("*")
    later(path)
    if folder == "live":
        path = path.rename(path.with_name("w-1-2-3-4.arrows"))  # its writer is gone
    for second in range(10, 19):  # so many that they are to be joined
        writer.append(columns([second], first=second, key="me" if second == 12 else None))
        writer.close()
        TrafficWriter(root, "x").close()
    return path


@pytest.mark.parametrize("folder", ["parquet", "sealed", "live"])
@pytest.mark.parametrize("act", [lambda log: log.read(), lambda log: log.erase("me")], ids=["read", "erase"])
def test_a_file_of_a_later_release_is_refused_and_stays_where_it_is(tmp_path: Path, folder: str, act: Any) -> None:
    path = foreign(tmp_path, folder)
    with pytest.raises(ConfigurationError, match=r"format 4; this release reads up to 3: upgrade"):
        act(TrafficLog(tmp_path))
    assert path.exists()
    assert not (tmp_path / "quarantine").exists()


@pytest.mark.parametrize("folder", ["parquet", "sealed", "live"])
def test_a_file_of_a_later_release_stops_neither_compaction_nor_the_erasure_of_other_files(
    tmp_path: Path, folder: str
) -> None:
    path, log = foreign(tmp_path, folder), TrafficLog(tmp_path, task="text_classification")
    with pytest.raises(ConfigurationError):
        log.erase("me")
    assert log.compact() == 8
    assert path.exists()
    path.unlink()
    assert numbers(log.read()) == [10, 11, 13, 14, 15, 16, 17, 18]


def test_a_log_of_another_task_keeps_that_tasks_columns(tmp_path: Path) -> None:
    cells = columns([0, 1], key="me")
    queries = {
        "user": ["u1", "u2"],
        "asked_at": [""] * 2,
        "segment": ["all"] * 2,
        "context": ["", "on a train"],
        "ask": ["{}"] * 2,
    }
    names = ("prediction_id", "at", "key", "version", "arm", "latency_ms", "redacted")
    answers = {"prediction": ['["item 1"]'] * 2, "propensities": ["[1.0]"] * 2}
    rows = {name: cells[name] for name in names} | queries | answers
    writer, log = TrafficWriter(tmp_path, "w", task="ranking"), TrafficLog(tmp_path)
    assert (
        TrafficLog(tmp_path, task="ranking").read(columns=["user"]).num_rows == log.read(columns=["text"]).num_rows == 0
    )
    writer.append(rows)
    live = log.read()
    writer.close()
    before = TrafficLog(tmp_path).read()
    assert before == live == TrafficLog(tmp_path, task="ranking").read()
    assert log.compact() == 2
    assert log.read() == before
    assert before.column_names == [*names, *queries, *answers, "embedding"]
    assert TrafficLog(tmp_path).read() == before
    assert log.rows_of("me")["context"].to_pylist() == ["", "on a train"]
    assert (log.prune(at(1)), log.read(columns=["user"])["user"].to_pylist()) == (1, ["u2"])
