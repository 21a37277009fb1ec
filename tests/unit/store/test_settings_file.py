"""The settings file keeps its owner, its rights, its place and everybody's changes when a model comes or goes."""

import codecs
import fcntl
import os
import resource
import stat
import threading
import tomllib
from pathlib import Path

import pytest

from perennial.continual.errors import ConfigurationError, Refused
from perennial.ops.settings import load_settings
from perennial.ops.store.settings_file import add_model, begin_settings, named_models, remove_model

_TWO = "# mine\n[models.sales]\n[models.help]\n"


def test_a_removal_keeps_owner_and_rights_and_edits_what_a_link_leads_to(tmp_path: Path) -> None:
    kept = tmp_path / "configured" / "perennial.toml"
    kept.parent.mkdir()
    kept.write_text(_TWO)
    kept.chmod(0o640)
    if os.getuid() == 0:
        os.chown(kept, 12_345, 23_456)
    before = kept.stat()
    link = tmp_path / "perennial.toml"
    link.symlink_to(kept)
    assert add_model(link, "more")
    assert remove_model(link, "sales")
    after = kept.stat()
    assert link.is_symlink()
    assert set(tomllib.loads(kept.read_text())["models"]) == {"help", "more"}
    assert (after.st_uid, after.st_gid, stat.S_IMODE(after.st_mode)) == (before.st_uid, before.st_gid, 0o640)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-be"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_file_that_an_editor_marked_keeps_its_mark_and_encoding(tmp_path: Path, encoding: str, end: str) -> None:
    path = tmp_path / "perennial.toml"
    text = end.join(["# Gebühr", "[models.sales]", "[models.help]", 'task = "text_classification"', ""])
    mark = codecs.BOM_UTF16_BE if encoding == "utf-16-be" else b""
    path.write_bytes(mark + text.encode(encoding))
    assert named_models(path) == ("sales", "help")
    assert load_settings(path).models.keys() == {"sales", "help"}
    assert add_model(path, "more")
    assert remove_model(path, "sales")
    assert named_models(path) == tuple(load_settings(path).models) == ("help", "more")
    data = path.read_bytes()
    assert data.startswith(mark or text[:1].encode(encoding)[:2])
    decoded = data.removeprefix(mark).decode(encoding)
    assert decoded.startswith(f"# Gebühr{end}[models.help]{end}")
    assert "\ufeff" not in decoded


@pytest.mark.parametrize("change", [add_model, remove_model])
def test_who_changes_the_file_waits_for_whoever_changes_it_now(tmp_path: Path, change) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "perennial.toml"
    path.write_text(_TWO)
    folder = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(folder, fcntl.LOCK_EX)
    changing = threading.Thread(target=change, args=(path, "sales"))
    changing.start()
    changing.join(0.2)
    path.write_text(
        _TWO.replace("[models.sales]", "[models.other]" if change is add_model else "[models.sales]\n[models.other]")
    )
    os.close(folder)
    changing.join(10)
    assert "other" in named_models(path)
    assert ("sales" in named_models(path)) is (change is add_model)


def test_of_two_removals_the_second_does_not_take_the_last_model(tmp_path: Path) -> None:
    path = tmp_path / "perennial.toml"
    path.write_text(_TWO)
    assert remove_model(path, "sales")
    with pytest.raises(Refused, match="help is the only model"):
        remove_model(path, "help")
    assert named_models(path) == ("help",)


@pytest.mark.parametrize("room", [0, 1, 250])
def test_a_full_disk_leaves_the_file_as_it_was(tmp_path: Path, room: int) -> None:
    path = tmp_path / "perennial.toml"
    path.write_text(_TWO)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(_TWO) + room, hard))
    try:
        with pytest.raises(OSError, match=r"File too large|no space"):
            add_model(path, "more")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_text() == _TWO
    assert add_model(path, "more")


def test_who_begins_second_keeps_what_the_first_one_wrote(tmp_path: Path) -> None:
    path = tmp_path / "new" / "perennial.toml"
    assert begin_settings(path)
    assert add_model(path, "mine")
    assert not begin_settings(path)
    assert named_models(path) == ("mine",)


def test_ends_of_lines_stay_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "perennial.toml"
    path.write_bytes(b"# mine\r\n[models.sales]\r\n[models.help]\r\nx = 1\r\n")
    assert remove_model(path, "sales")
    assert path.read_bytes() == b"# mine\r\n[models.help]\r\nx = 1\r\n"


@pytest.mark.parametrize("change", [add_model, remove_model, lambda path, _: named_models(path)])
def test_a_file_in_another_encoding_is_refused(tmp_path: Path, change) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "perennial.toml"
    path.write_bytes("# Gebühr\n[models.sales]\n".encode("latin-1"))
    with pytest.raises(ConfigurationError, match="is not UTF-8"):
        change(path, "sales")
    with pytest.raises(ConfigurationError, match=r"is not UTF-8 \(byte 0xfc at position 5\); save it as UTF-8"):
        load_settings(path)
