"""The traffic log when processes die, disks refuse and everybody works at once: no row twice, none missing."""

import fcntl
import os
import random
import signal
import time
from pathlib import Path

import pytest

from perennial.continual.errors import DependencyUnreachable
from perennial.ops.traffic import TrafficLog, TrafficWriter
from perennial.ops.traffic.segment import process_start, seal, writer_gone
from tests.component.traffic_rows import at, columns, numbers, row_id, start

pytestmark = [pytest.mark.component, pytest.mark.paired]

# Appends numbered rows of two dimensions by turns until it is killed; says each number after `append` came back.
WRITE = """
import sys, time
from pathlib import Path
from perennial.ops.traffic import TrafficWriter
from tests.component.traffic_rows import columns
writer = TrafficWriter(Path(sys.argv[1]), "child", rotate_rows=int(sys.argv[3]))
first = int(sys.argv[2])
for number in range(first, first + 1_000_000):
    writer.append(columns([number / 1000], first=number, key="ab"[number % 2], dimension=(3, 5)[number // 2 % 2]))
    print(number, flush=True)
    time.sleep(0.0005)
"""

# Forks a child for each filesystem step of one call; the child is killed just before that step.
KILL_AT_EACH_STEP = """
import os, shutil, signal, sys
from pathlib import Path
from perennial.ops.traffic import TrafficLog
from tests.component.traffic_rows import at

template, folder, call = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
calls = {"compact": TrafficLog.compact, "erase": lambda log: log.erase("a"), "prune": lambda log: log.prune(at(3))}
for step in range(1000):
    root = folder / str(step)
    shutil.copytree(template, root)
    child = os.fork()
    if child == 0:
        seen = 0
        def on_event(name, arguments):
            global seen
            if name in {"open", "os.rename", "os.remove", "os.truncate", "os.mkdir"} and any(
                str(root) in str(argument) for argument in arguments
            ):
                seen += 1
                if seen > step:
                    os.kill(os.getpid(), signal.SIGKILL)
        sys.addaudithook(on_event)
        calls[call](TrafficLog(root))
        os._exit(0)
    if os.waitpid(child, 0)[1] == 0:
        print(step)
        break
"""


def test_answered_rows_survive_a_killed_writer(tmp_path: Path) -> None:
    writers = [start(WRITE, tmp_path, first, 50) for first in (0, 1_000_000)]
    log = TrafficLog(tmp_path)
    while log.count() < 400:
        time.sleep(0.02)
    for writer in writers:
        writer.send_signal(signal.SIGKILL)
    written = [int(line) for writer in writers for line in writer.communicate()[0].split()]
    for _ in ("streams", "parquet"):
        read = numbers(log.read())
        assert set(written) <= set(read)
        assert len(read) == len(set(read)) <= len(written) + len(writers), (
            "at most one row each was not written any more"
        )
        assert log.compact() in {len(read), 0}
    assert list((tmp_path / "live").iterdir()) == []


def test_torn_batch_is_skipped_wherever_it_is_cut(tmp_path: Path) -> None:
    writer = TrafficWriter(tmp_path / "whole", "a")
    sizes = []
    for number in range(3):
        writer.append(columns([number], first=number))
        [stream] = (tmp_path / "whole" / "live").iterdir()
        sizes.append(stream.stat().st_size)
    data = stream.read_bytes()
    writer.close()
    torn = tmp_path / "torn" / "live" / "dead-1-0-0-0.arrows"
    torn.parent.mkdir(parents=True)
    for size in [*range(0, sizes[0], 97), *range(sizes[0], sizes[2] + 1, 13), *sizes, sizes[1] + 1]:
        torn.write_bytes(data[:size])
        whole = sum(size >= end for end in sizes)
        assert numbers(TrafficLog(tmp_path / "torn").read()) == list(range(whole)), size
    torn.write_bytes(data[: sizes[2] - 5])
    log = TrafficLog(tmp_path / "torn")
    assert log.compact() == 2
    assert numbers(log.read()) == [0, 1]
    torn.write_bytes(data[:40])
    assert (log.compact(), list(torn.parent.iterdir())) == (0, [])


def test_reader_goes_on_where_a_growing_stream_was_torn(tmp_path: Path) -> None:
    writer = TrafficWriter(tmp_path / "source", "a")
    for number in range(4):
        writer.append(columns([number], first=number))
    [source] = (tmp_path / "source" / "live").iterdir()
    data = source.read_bytes()
    writer.close()
    growing = tmp_path / "log" / "live" / source.name
    growing.parent.mkdir(parents=True)
    log, seen = TrafficLog(tmp_path / "log"), []
    for size in range(0, len(data) + 1, 29):
        growing.write_bytes(data[:size])
        read = numbers(log.read())
        assert read[: len(seen)] == seen
        seen = read
    growing.write_bytes(data)
    assert numbers(log.read()) == [0, 1, 2, 3]


def test_damaged_stream_ends_at_the_damage(tmp_path: Path) -> None:
    writer = TrafficWriter(tmp_path, "a")
    sizes = []
    for number in range(3):
        writer.append(columns([number], first=number))
        [stream] = (tmp_path / "live").iterdir()
        sizes.append(stream.stat().st_size)
    data = bytearray(stream.read_bytes())
    data[sizes[0] : sizes[1]] = bytes(sizes[1] - sizes[0])
    stream.write_bytes(data)
    assert numbers(TrafficLog(tmp_path).read()) == [0]
    writer.close()


def template_of(root: Path) -> list[int]:
    """A log with Parquet files, sealed streams and what dead writers left; returns the numbers of its rows."""
    for place, kind in enumerate(["parquet", "sealed", "sealed", "dead"]):
        writer = TrafficWriter(root, "w")
        for number in range(3 * place, 3 * place + 3):
            dimension = 5 if place == 2 else 3
            writer.append(columns([number % 6], first=number, key="ab"[number % 2], dimension=dimension))
        if kind == "dead":
            [live] = (root / "live").glob("w-*")
            live.rename(live.with_name(f"dead-1-0-{place}-0.arrows"))
        writer.close()
        if kind == "parquet":
            TrafficLog(root).compact()
    return list(range(12))


@pytest.mark.parametrize("call", ["compact", "erase", "prune"])
def test_rewriting_killed_at_any_step_loses_and_doubles_nothing(tmp_path: Path, call: str) -> None:
    every = template_of(tmp_path / "template")
    deleted = {
        "compact": set(),
        "erase": {number for number in every if number % 2 == 0},
        "prune": {number for number in every if number % 6 < 3},
    }[call]
    child = start(KILL_AT_EACH_STEP, tmp_path / "template", tmp_path, call)
    steps = int(child.communicate()[0])
    assert child.returncode == 0
    assert steps >= 8, "too few steps: the hook didn't see the filesystem"
    for step in range(steps + 1):
        log = TrafficLog(tmp_path / str(step))
        left = numbers(log.read())
        assert len(left) == len(set(left)) == log.count(), step
        assert set(every) - deleted <= set(left), step
        again = {"compact": log.compact, "erase": lambda: log.erase("a"), "prune": lambda: log.prune(at(3))}[call]  # noqa: B023
        again()
        log.compact()
        for reader in (log, TrafficLog(tmp_path / str(step))):
            assert sorted(numbers(reader.read())) == sorted(set(every) - deleted), step
        assert not [path for path in log._root.rglob("*.tmp") if path.parent.name == "parquet"], step


def test_readers_see_all_told_rows_once_while_all_work(tmp_path: Path) -> None:
    """Two writers, a compacting process and a reader at once; what was told before a reading is in it."""
    compactor = start(
        "import sys, time\nfrom pathlib import Path\nfrom perennial.ops.traffic import TrafficLog\n"
        "log = TrafficLog(Path(sys.argv[1]))\n"
        "while True:\n    log.compact()\n    time.sleep(0.02)\n",  # or a starved reader finds each list out of date
        tmp_path,
    )
    writers = [start(WRITE, tmp_path, first, 7) for first in (0, 1_000_000)]
    written: list[set[int]] = [set(), set()]
    log, until, readings = TrafficLog(tmp_path), time.monotonic() + 4, 0
    try:
        while time.monotonic() < until or readings < 8 or not list(tmp_path.glob("parquet/*.parquet")):
            for writer, mine in zip(writers, written, strict=True):
                assert writer.stdout is not None
                mine.update(int(writer.stdout.readline()) for _ in range(25))
            assert compactor.poll() is None, "the compacting process failed"
            reader = log if readings % 3 else TrafficLog(tmp_path)
            read = numbers(reader.read(columns=["text"]))
            assert len(read) == len(set(read))
            assert written[0] | written[1] <= set(read)
            newest = max(written[0])
            tail = numbers(reader.read(since=at(newest / 1000), until=at(10_000 / 1000 + newest), columns=["text"]))
            assert newest in tail
            assert numbers(reader.lookup([row_id(newest / 1000, newest)])) == [newest]
            readings += 1
    finally:
        for process in (*writers, compactor):
            process.kill()
            process.communicate()


def test_writer_whose_stream_is_kept_locked_opens_another(tmp_path: Path) -> None:
    writer, log = TrafficWriter(tmp_path, "a"), TrafficLog(tmp_path)
    writer.append(columns([0], key="ada"))
    [stream] = (tmp_path / "live").iterdir()
    with stream.open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        began = time.monotonic()
        writer.append(columns([1], first=1))
        assert time.monotonic() - began < 2
        assert not seal(stream, 0.0)
        with pytest.raises(DependencyUnreachable, match="kept locked"):
            log.erase("ada")
        assert numbers(log.read()) == [0, 1]
    writer.close()
    assert log.erase("ada") == 1
    assert numbers(log.read()) == [1]


def test_full_disk_leaves_whole_rows_and_the_retry_counts_once(tmp_path: Path) -> None:
    script = """
import resource, signal, sys
from pathlib import Path
from perennial.ops.traffic import TrafficLog, TrafficWriter
from tests.component.traffic_rows import columns, numbers
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
root = Path(sys.argv[1])
writer = TrafficWriter(root, "a")
writer.append(columns([0]))
[stream] = (root / "live").iterdir()
resource.setrlimit(resource.RLIMIT_FSIZE, (stream.stat().st_size + 500, resource.RLIM_INFINITY))
try:
    writer.append(columns([1], first=1))
except OSError as exc:
    print("refused", exc.errno)
print(numbers(TrafficLog(root).read()))
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
writer.append(columns([1], first=1))
writer.append(columns([2], first=2))
writer.close()
print(numbers(TrafficLog(root).read()))
"""
    child = start(script, tmp_path)
    assert child.communicate()[0].splitlines() == ["refused 27", "[0]", "[0, 1, 2]"]
    assert child.returncode == 0


def test_forgotten_stream_of_a_living_writer_is_sealed(tmp_path: Path) -> None:
    writer, log = TrafficWriter(tmp_path, "a"), TrafficLog(tmp_path)
    writer.append(columns([0]))
    assert log.compact() == 0
    [stream] = (tmp_path / "live").iterdir()
    old = time.time() - 3_600
    os.utime(stream, (old, old))
    assert log.compact() == 1
    writer.append(columns([1], first=1))
    assert numbers(log.read()) == [0, 1]
    writer.close()


def test_writer_is_told_gone_by_pid_and_start(tmp_path: Path) -> None:
    pid, started = os.getpid(), process_start(os.getpid())
    assert not writer_gone(f"intent_0-{pid}-{started}-1-x")
    assert writer_gone(f"intent_0-{pid}-{int(started or 0) + 1}-1-x")
    assert writer_gone("intent_0-0-1-1-x")
    assert writer_gone("not one of our names")


def test_reader_gives_up_on_files_that_never_hold_still(tmp_path: Path) -> None:
    writer = TrafficWriter(tmp_path, "a")
    writer.append(columns([0]))
    writer.close()
    [sealed] = (tmp_path / "sealed").iterdir()
    sealed.unlink()
    sealed.symlink_to(tmp_path / "nowhere")
    with pytest.raises(DependencyUnreachable, match="changed during each"):
        TrafficLog(tmp_path).read()


def test_stream_listed_on_its_way_to_the_sealed_ones_counts_once(tmp_path: Path) -> None:
    writer = TrafficWriter(tmp_path, "a")
    writer.append(columns([0]))
    [live] = (tmp_path / "live").iterdir()
    (tmp_path / "sealed").mkdir()
    os.link(live, tmp_path / "sealed" / f"{0:018d}-{10**17:018d}-{live.name}")
    assert (numbers(TrafficLog(tmp_path).read()), TrafficLog(tmp_path).count()) == ([0], 1)
    writer.close()


def test_random_bytes_never_break_reading_a_stream(tmp_path: Path) -> None:
    chance = random.Random(5)
    stream = tmp_path / "live" / "x-1-0-0-0.arrows"
    stream.parent.mkdir()
    for size in (1, 7, 8, 9, 64, 300):
        stream.write_bytes(b"\xff\xff\xff\xff" + chance.randbytes(size))
        assert TrafficLog(tmp_path).count() == 0
