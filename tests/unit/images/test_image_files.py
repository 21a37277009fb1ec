"""Labelled images on disk: folders of classes, tables with paths, and nothing outside of them."""

import io
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from perennial.continual.errors import DataError, RowsRefused
from perennial.continual.images import ImageStore
from perennial.continual.images.files import holds_images, image_rows
from perennial.continual.preparation import STANDARD_INPUT
from tests.component.image_fixtures import coloured


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    for place, label in enumerate(("red", "green")):
        (folder / label).mkdir(parents=True)
        for seed in range(2):
            (folder / label / f"{seed}.png").write_bytes(coloured(label, 2 * place + seed))
    return folder


@pytest.fixture
def store(tmp_path: Path) -> ImageStore:
    return ImageStore(tmp_path / "store")


def test_a_folder_for_each_class(data: Path, store: ImageStore) -> None:
    (data / "notes.txt").write_text("not a class")
    (data / "red" / "notes.txt").write_text("not an image")
    (data / ".hidden").mkdir()
    rows = image_rows(data, store)
    assert [row.label for row in rows] == ["green", "green", "red", "red"]
    assert {row.text for row in rows} == store.names()
    assert len(store.names()) == 4


def test_a_table_with_paths_beside_it(data: Path, store: ImageStore) -> None:
    table = data / "rows.csv"
    table.write_text("file,label,key,at\nred/0.png,warm,ann,2026-01-31\ngreen/1.png,cold,,\n")
    rows = image_rows(table, store)
    assert [(row.label, row.key) for row in rows] == [("warm", "ann"), ("cold", None)]
    assert rows[0].at.isoformat() == "2026-01-31T00:00:00+00:00"
    lines = data / "rows.jsonl"
    lines.write_text('{"image": "red/1.png", "label": "warm"}\n')
    assert [row.label for row in image_rows(lines, store)] == ["warm"]


def test_a_table_says_whose_an_image_is_by_declared_columns_alone(data: Path, store: ImageStore) -> None:
    table = data / "rows.csv"
    table.write_text("file,label,region,age\nred/0.png,warm,north,60\nred/1.png,warm,,30\n")
    assert [dict(row.attributes) for row in image_rows(table, store, attributes=["region"])] == [
        {"region": "north"},
        {},
    ]
    assert not any(row.attributes for row in image_rows(table, store))
    table.write_text(f"file,label,region\ngreen/0.png,warm,{'n' * 61}\n")
    before = store.names()
    with pytest.raises(RowsRefused, match="attribute region"):
        image_rows(table, store, attributes=["region"])
    assert store.names() == before, "a refused row leaves no picture"


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("../secret.png", "leads out of"),
        ("red/../../secret.png", "leads out of"),
        ("{outside}", "leads out of"),
        ("link.png", "leads out of"),
        ("linked/secret.png", "leads out of"),
        ("round.png", "cannot be read|is no file"),
        ("red", "is no file"),
        ("red/none.png", "is no file"),
        ("rows.csv", "is no JPEG or PNG file"),
        ("", "is empty"),
    ],
)
def test_nothing_outside_is_read(data: Path, store: ImageStore, path: str, reason: str) -> None:
    outside = data.parent / "secret.png"
    outside.write_bytes(coloured("blue", 9))
    (data / "link.png").symlink_to(outside)
    (data / "linked").symlink_to(data.parent, target_is_directory=True)
    (data / "round.png").symlink_to(data / "round.png")
    table = data / "rows.csv"
    table.write_text(f'image,label\nred/0.png,warm\n"{path.format(outside=outside)}",cold\n')
    with pytest.raises(RowsRefused, match=reason) as told:
        image_rows(table, store)
    assert [row["row"] for row in told.value.rows] == [3]
    assert len(store.names()) == 1


def test_a_link_out_of_a_folder_of_classes_is_refused(data: Path, store: ImageStore) -> None:
    outside = data.parent / "elsewhere"
    outside.mkdir()
    (outside / "secret.png").write_bytes(coloured("blue", 9))
    (data / "blue").symlink_to(outside, target_is_directory=True)
    (data / "red" / "broken.jpg").write_bytes(b"no image")
    with pytest.raises(RowsRefused, match="2 of 6 files are no images to learn from") as told:
        image_rows(data, store)
    assert [row["row"] for row in told.value.rows] == ["blue/secret.png", "red/broken.jpg"]


def test_an_empty_folder_says_what_is_expected(tmp_path: Path, store: ImageStore) -> None:
    with pytest.raises(DataError, match="give each class a folder of its own"):
        image_rows(tmp_path, store)


def test_a_folder_that_cannot_be_read_is_named(data: Path, store: ImageStore, monkeypatch: pytest.MonkeyPatch) -> None:
    listed = Path.iterdir

    def refusing(folder: Path) -> Iterator[Path]:
        if folder.name == "green":
            raise PermissionError(13, "Permission denied", str(folder))
        return listed(folder)

    monkeypatch.setattr(Path, "iterdir", refusing)
    with pytest.raises(DataError, match=r"green cannot be read \(Permission denied\)"):
        image_rows(data, store)


def test_names_of_another_encoding_are_read_and_no_labels(data: Path, store: ImageStore) -> None:
    (data / "red" / os.fsdecode(b"caf\xe9.png")).write_bytes(coloured("red", 7))
    assert len(image_rows(data, store)) == 5
    other = data / os.fsdecode(b"caf\xe9")
    other.mkdir()
    (other / "1.png").write_bytes(coloured("blue", 8))
    with pytest.raises(RowsRefused, match=r"1 of 6 files are no images to learn from: .*label"):
        image_rows(data, store)


def test_what_comes_by_standard_input_is_left_to_who_reads_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    unread = io.TextIOWrapper(io.BytesIO(b"prediction_id,label\n"))
    monkeypatch.setattr(sys, "stdin", unread)
    assert not holds_images(STANDARD_INPUT)
    assert unread.read() == "prediction_id,label\n"
