"""What `init` and `predict` say of images before anything is done with them."""

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from perennial.continual.errors import ConfigurationError, DataError, RowsRefused
from perennial.continual.images import ImageStore
from perennial.ops.cli.main import app
from perennial.ops.cli.serving import _asked
from tests.component.image_fixtures import COLOURS, coloured


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for label in COLOURS:
        (tmp_path / "data" / label).mkdir(parents=True)
        for seed in range(8):
            (tmp_path / "data" / label / f"{seed}.png").write_bytes(coloured(label, seed))
    return tmp_path / "data"


def _init(data: Path, *more: str) -> dict[str, object]:
    config = data.parent / "perennial.toml"
    done = CliRunner().invoke(app, ["init", "shapes", "--data", str(data), "--dry-run", "--config", str(config), *more])
    if done.exception is not None:
        raise done.exception
    assert not config.exists()
    told: dict[str, object] = json.loads(done.stdout)
    return told


def test_a_folder_of_data_holds_images_and_a_dry_run_counts_them(data: Path) -> None:
    told = _init(data)
    assert (told["task"], told["images"], told["labels"]) == ("image_classification", 24, 3)
    assert (told["encoder"], told["then"]) == ("packaged:efficientnet-lite0", "train and publish version 1")
    for file in (data / "blue").iterdir():
        file.unlink()
    assert str(_init(data)["then"]).startswith("refused: 16 different rows with 2 labels are too few")


def test_what_is_wrong_with_the_images_is_named(data: Path) -> None:
    (data / "red" / "0.png").write_bytes(b"GIF89a")
    with pytest.raises(RowsRefused, match=r"1 of 24 files are no images to learn from: red/0\.png: it is no JPEG"):
        _init(data)
    with pytest.raises(ConfigurationError, match="is a catalogue, which goes with --task ranking"):
        _init(data, "--items", str(data / "red" / "1.png"))
    (data.parent / "empty").mkdir()
    with pytest.raises(DataError, match="give each class a folder of its own"):
        _init(data.parent / "empty")


def test_a_model_of_images_is_asked_about_files(data: Path) -> None:
    file = data / "red" / "1.png"
    assert _asked("image_classification", [str(file)], "", 10, "") == [file.read_bytes()]
    with pytest.raises(typer.BadParameter, match="cannot be read"):
        _asked("image_classification", [str(data / "none.png")], "", 10, "")


def test_a_dry_run_of_an_import_keeps_no_picture(data: Path) -> None:
    config = data.parent / "perennial.toml"
    config.write_text('state = "state"\n[models.shapes]\ntask = "image_classification"\n')
    kept = ImageStore(data.parent / "state" / "images" / "shapes")

    def told(*more: str) -> dict[str, object]:
        done = CliRunner().invoke(app, ["feedback", "import", str(data), "--config", str(config), *more])
        if done.exception is not None:
            raise done.exception
        found: dict[str, object] = json.loads(done.stdout)
        return found

    assert (told("--dry-run")["would_store"], len(kept.names())) == (24, 0)
    assert (told()["new"], len(kept.names())) == (24, 24)
