"""A file appears whole or not at all, with its permissions, and nothing is left beside it."""

import errno
import os
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from perennial.continual.atomic_file import (
    drop_leftovers,
    folder_written_whole,
    put_in_place,
    write_atomically,
    written_whole,
)
from perennial.continual.errors import ExportFailed

KILLED = """
import os, signal, sys
from pathlib import Path
from perennial.continual.atomic_file import written_whole
with written_whole(Path(sys.argv[1])) as temporary:
    temporary.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


@pytest.mark.parametrize("content", ["wörter", b"\x00\xff"])
def test_the_content_takes_the_place_of_the_old_one(tmp_path: Path, content: str | bytes) -> None:
    path = tmp_path / "new" / "file.json"
    for written in (b"old", content):
        write_atomically(path, written)
    assert path.read_bytes() == (content.encode() if isinstance(content, str) else content)
    assert names(path.parent) == ["file.json"]


def test_a_failed_block_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_atomically(path, "old")

    def run_full() -> None:
        with written_whole(path) as temporary:
            temporary.write_text("half")
            raise OSError("the disk is full")

    with pytest.raises(OSError, match="full"):
        run_full()
    assert (path.read_text(), names(tmp_path)) == ("old", ["file"])


@pytest.mark.parametrize("written", [written_whole, folder_written_whole])
def test_a_full_disk_is_an_error_of_the_system_whichever_library_met_it(
    tmp_path: Path, written: Callable[[Path], AbstractContextManager[Path]]
) -> None:
    said = "Error while serializing: I/O error: No space left on device (os error 28)"  # as safetensors and tokenizers
    with pytest.raises(OSError, match="No space") as full, written(tmp_path / "new"):
        raise Exception(said)  # noqa: TRY002  # as tokenizers does
    assert (full.value.errno, full.value.filename) == (errno.ENOSPC, str(tmp_path / "new"))
    for own in (ExportFailed(said), ValueError("no number of the system")):
        with pytest.raises(type(own)), written(tmp_path / "new"):
            raise own
    assert not names(tmp_path)


def test_what_a_killed_writer_left_goes_with_the_next_write(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_atomically(path, "old")
    ended = subprocess.run([sys.executable, "-c", KILLED, str(path)], check=False, timeout=60)
    assert ended.returncode == -9
    left = [name for name in names(tmp_path) if name != "file"]
    assert (path.read_text(), len(left)) == ("old", 1)
    (tmp_path / ".file.tmp").write_text("an earlier release was killed")
    others = [".file.tmp.bak", ".files.7.tmp", ".file.1.tmp"]  # the last one's writer is alive
    for name in others:
        (tmp_path / name).touch()
    write_atomically(path, "new")
    assert (path.read_text(), names(tmp_path)) == ("new", sorted(["file", *others]))
    drop_leftovers(path)
    assert names(tmp_path) == sorted(["file", *others])


@pytest.mark.parametrize("make", [Path.touch, Path.mkdir])
def test_what_a_writer_of_another_container_may_write_now_is_left_for_a_day(
    tmp_path: Path, make: Callable[[Path], None]
) -> None:
    """Two containers share a folder, and neither sees the other's processes."""
    path, nobody = tmp_path / "file", 2**22 + 1
    theirs, older = (tmp_path / f".file.{name}-{nobody}.tmp" for name in ("0a1b2c3d", "4e5f6a7b"))
    make(theirs)
    make(older)
    two_days_ago = time.time() - 2 * 86_400
    os.utime(older, (two_days_ago, two_days_ago))
    write_atomically(path, "new")
    assert names(tmp_path) == sorted(["file", theirs.name])


def test_a_folder_takes_the_place_of_the_old_one_or_leaves_it(tmp_path: Path) -> None:
    folder = tmp_path / "above" / "folder"

    def write(content: str, error: Exception | None = None) -> None:
        with folder_written_whole(folder) as temporary:
            assert not list(temporary.iterdir())
            (temporary / content).touch()
            if error is not None:
                raise error

    write("old")
    left = folder.with_name(".folder.tmp")  # as an earlier release left it when it was killed
    left.mkdir()
    (left / "half").touch()
    with pytest.raises(OSError, match="full"):
        write("new", OSError("the disk is full"))
    assert (names(folder), names(folder.parent)) == (["old"], ["folder"])
    write("new")
    assert (names(folder), names(folder.parent)) == (["new"], ["folder"])


@pytest.mark.parametrize("umask", [0o077, 0o022])
@pytest.mark.parametrize("mode", [None, 0o600, 0o700])
def test_the_permissions_hold_from_the_first_byte_on(tmp_path: Path, umask: int, mode: int | None) -> None:
    path, wanted = tmp_path / "file", 0o666 & ~umask if mode is None else mode
    before = os.umask(umask)
    try:
        with written_whole(path, mode=mode) as temporary:
            assert stat.S_IMODE(temporary.stat().st_mode) == wanted
            temporary.unlink()
            temporary.touch(0o644)  # as a library that makes the file anew
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == wanted


@pytest.mark.parametrize(("durable", "flushed"), [(True, ["file", "folder"]), (False, [])])
def test_what_shall_outlive_a_power_cut_is_flushed_with_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, durable: bool, flushed: list[str]
) -> None:
    seen: list[str] = []

    def look(descriptor: int) -> None:
        seen.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")

    monkeypatch.setattr(os, "fsync", look)
    write_atomically(tmp_path / "file", "new", durable=durable)
    assert seen == flushed
    (tmp_path / "staged").write_text("newer")
    put_in_place(tmp_path / "staged", tmp_path / "file", durable=durable)
    assert seen == 2 * flushed
    assert (tmp_path / "file").read_text() == "newer"


def test_of_writers_at_the_same_time_each_reader_sees_one_whole(tmp_path: Path) -> None:
    path, contents = tmp_path / "file", [letter * 200_000 for letter in "abc"]
    write_atomically(path, contents[0], durable=False)
    failed: list[BaseException] = []

    def write(content: str) -> None:
        try:
            for _ in range(20):
                write_atomically(path, content, durable=False)
        except BaseException as exc:
            failed.append(exc)

    writers = [threading.Thread(target=write, args=(content,)) for content in contents]
    for writer in writers:
        writer.start()
    seen = {path.read_text() for _ in range(40)}
    for writer in writers:
        writer.join()
    assert not failed
    assert seen <= set(contents)
    assert names(tmp_path) == ["file"]
