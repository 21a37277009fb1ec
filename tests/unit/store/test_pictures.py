"""Pictures leave when no row names them, and not before."""

import os
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pytest

from perennial.continual.errors import DataError
from perennial.continual.images import ImageStore, Picture
from perennial.continual.preparation import KnownLabels
from perennial.continual.records import Example, Origin, Split
from perennial.ops.ledger import Ledger, PendingFeedback, StoredExample
from perennial.ops.settings import ModelSettings, Settings
from perennial.ops.store.feedback import add_labels, joining
from perennial.ops.store.pictures import check_pictures, forget_pictures, sweep_pictures
from perennial.ops.store.workspace import Workspace
from perennial.ops.traffic import TrafficWriter
from tests.component.traffic_rows import columns

PICTURES = [Picture(content=bytes([number])) for number in range(4)]
LEARNT, LOGGED, GONE, YOUNG = (picture.name for picture in PICTURES)


class _Ledger:
    """What is asked of a ledger: its rows."""

    def examples(self, model: str, **_: Any) -> tuple[StoredExample, ...]:
        assert model == "shapes"
        row = Example(text=LEARNT, label="cat", at=datetime(2026, 1, 1, tzinfo=UTC))
        return (StoredExample(id=1, example=row, split=Split.TRAIN),)


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """One row of the ledger names a picture, one of the log another, and two are named by none."""
    models = {"shapes": ModelSettings(task="image_classification")}
    made = Workspace(Settings(state=tmp_path / "state", models=models))
    store = ImageStore(made.images("shapes"))
    for picture in PICTURES:
        store.put(picture)
    old = time.time() - 7_200
    for file in store.folder.rglob("*.jpg"):
        if YOUNG.removeprefix("image:") not in file.name:
            os.utime(file, (old, old))
    seen: dict[str, list[float] | list[int]] = {"brightness": [0.5], "width": [8], "height": [8]}
    writer = TrafficWriter(made.traffic("shapes"), "router", task="image_classification")
    writer.append({**columns([1.0]), "text": [LOGGED], **seen})
    writer.close()
    return made


def test_a_sweep_takes_what_no_row_names_once_it_is_old(workspace: Workspace) -> None:
    assert sweep_pictures(_Ledger(), workspace, "shapes") == 1
    assert ImageStore(workspace.images("shapes")).names() == {LEARNT, LOGGED, YOUNG}
    assert sweep_pictures(_Ledger(), workspace, "other") == 0


def test_an_erasure_takes_its_own_at_once_and_leaves_what_others_name(workspace: Workspace) -> None:
    assert forget_pictures(_Ledger(), workspace, "shapes", among=[LEARNT, LOGGED, YOUNG, "a text"]) == 1
    assert ImageStore(workspace.images("shapes")).names() == {LEARNT, LOGGED, GONE}
    assert forget_pictures(_Ledger(), workspace, "shapes", among=["a text"]) == 0


def test_a_label_is_joined_where_its_picture_is_kept(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(joining, "known_labels", lambda *_: KnownLabels(["cat"]))
    joiner = joining.joiner_of(cast("Any", _Ledger()), workspace, "shapes")
    now = datetime(2026, 1, 1, tzinfo=UTC)
    told = PendingFeedback(
        id=1,
        prediction_id="0" * 32,
        label="cat",
        at=now,
        received_at=now,
        origin=Origin.FEEDBACK,
        key="ann",
        revision=1,
    )
    row = joiner.row(told, {"text": LOGGED, "key": None, "redacted": False})
    assert (row.input, row.target, row.key) == (LOGGED, "cat", "ann")
    with pytest.raises(DataError, match="was not kept, or is gone"):
        joiner.row(told, {"text": Picture(content=b"another").name, "key": None, "redacted": False})


def test_rows_of_a_table_name_pictures_that_are_kept(workspace: Workspace) -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    kept, lost = (Example(text=name, label="cat", at=now) for name in (LOGGED, Picture(content=b"another").name))
    check_pictures(workspace, "shapes", [kept, object()])
    with pytest.raises(DataError, match="has no picture here; label an answered request"):
        check_pictures(workspace, "shapes", [kept, lost])
    check_pictures(Workspace(Settings(models={"intent": ModelSettings()})), "intent", [lost])


def test_a_text_is_no_label_of_an_image(tmp_path: Path) -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    with Ledger.open(f"sqlite:///{tmp_path / 'ledger.db'}") as ledger:
        ledger.register_model("shapes", {"task": "image_classification"})
        for text, origin in (("a red card", Origin.SEED), (GONE, Origin.FEEDBACK)):
            with pytest.raises(DataError, match="label an answered request, or import"):
                add_labels(ledger, "shapes", [Example(text=text, label="cat", at=now, origin=origin)])
        assert ledger.examples("shapes") == ()
        row = Example(text=LEARNT, label="cat", at=now, origin=Origin.SEED)
        assert add_labels(ledger, "shapes", [row])["new"] == 1
