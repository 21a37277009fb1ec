"""A few lost pictures are left out of a training and told; many refuse it."""

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from perennial.continual.errors import DataError
from perennial.continual.images import ImageStore, Picture, read_image
from perennial.continual.records import Example, Split
from perennial.ops.ledger import Ledger
from perennial.ops.making.lost_pictures import without_lost_pictures
from perennial.ops.making.rows import HoldoutRows, ModelRows, TrainingRows
from perennial.ops.settings import ModelSettings, Settings
from perennial.ops.store.workspace import Workspace
from tests.component.databases import fresh_url
from tests.component.image_fixtures import file_of

AT = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def kept(tmp_path: Path) -> tuple[Workspace, Ledger, list[Picture]]:
    """Forty pictures of two classes, each fourth of which proves versions."""
    settings = ModelSettings(task="image_classification")
    workspace = Workspace(Settings(state=tmp_path, repository=tmp_path / "r", models={"shapes": settings}))
    ledger, store, rng = Ledger.open(fresh_url("sqlite", tmp_path)), ImageStore(workspace.images("shapes")), np.random
    ledger.register_model("shapes", settings.model_dump(mode="json"))
    drawn = rng.default_rng(0).integers(256, size=(40, 8, 8, 3), dtype=np.uint8)
    pictures = [read_image(file_of(each, "PNG")) for each in drawn]
    for picture in pictures:
        store.put(picture)
    rows = [Example(text=each.name, label="ab"[place % 2], at=AT) for place, each in enumerate(pictures)]
    proof = {row.text for row in rows[::4]}
    ledger.add_examples("shapes", rows, lambda asked: Split.HOLDOUT if asked in proof else Split.TRAIN)
    return workspace, ledger, pictures


def _path(workspace: Workspace, picture: Picture) -> Path:
    (found,) = workspace.images("shapes").rglob(f"{picture.name.removeprefix('image:')}.jpg")
    return found


def _rows(workspace: Workspace, ledger: Ledger) -> tuple[TrainingRows, HoldoutRows]:
    rows = ModelRows(ledger, workspace, "shapes")
    return rows.training_rows(None), rows.holdout_rows(None)


def test_lost_and_broken_pictures_are_left_out_and_counted(kept: tuple[Workspace, Ledger, list[Picture]]) -> None:
    workspace, ledger, pictures = kept
    whole = _rows(workspace, ledger)
    assert without_lost_pictures(workspace, "shapes", *whole) == whole
    proof, lost, broken = pictures[4], pictures[1], pictures[2]
    _path(workspace, lost).unlink()
    _path(workspace, proof).unlink()
    _path(workspace, broken).write_bytes(broken.content[:-9])
    rows, holdout = without_lost_pictures(workspace, "shapes", *whole)
    names = {row.input for row in rows.examples}
    assert (len(names), names & {lost.name, broken.name}) == (28, set())
    assert rows.learnt == tuple(stored.id for stored in rows.fresh)
    assert rows.counted["rows_left_out"] == rows.left_out == 3
    assert (len(holdout.all), len(holdout.ids)) == (9, 9)
    assert proof.name not in {row.input for row in holdout.all}
    told = dict(zip(whole[1].ids, whole[1].all, strict=True))
    assert [told[number] for number in holdout.ids] == list(holdout.all), "each id stays with its row"
    own = ModelRows(ledger, workspace, "shapes")
    own.note_taught(1, rows)
    assert own.taught_rows(1, None) == rows


def test_without_its_folder_a_training_is_refused(kept: tuple[Workspace, Ledger, list[Picture]]) -> None:
    workspace, ledger, pictures = kept
    whole = _rows(workspace, ledger)
    for picture in pictures[:5]:
        _path(workspace, picture).unlink()
    with pytest.raises(DataError, match=r"5 of the 40 pictures that rows of shapes name are lost .* \(limit 10%\)"):
        without_lost_pictures(workspace, "shapes", *whole)
