"""A first version of labelled images: what was read, and how good it is beside the most frequent label."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from typing import TYPE_CHECKING, Any
from weakref import finalize

from perennial.ops.cli.beginning.port import Files
from perennial.ops.cli.console import say
from perennial.ops.cli.session import session

if TYPE_CHECKING:
    from perennial.continual.images import ImageStore
    from perennial.continual.records import Example
    from perennial.ops.settings import LearningSettings

__all__ = ["ImagesRead", "WaitingPictures", "make", "plan", "read"]


class WaitingPictures:
    """Pictures until it is known that they are wanted; their folder goes with the object, however that ends."""

    def __init__(self) -> None:
        from perennial.continual.images import ImageStore

        folder = Path(mkdtemp(prefix="perennial-images-"))
        finalize(self, rmtree, folder, ignore_errors=True)
        self.store = ImageStore(folder)

    def keep(self, rows: "Sequence[Example]", kept: "ImageStore") -> None:
        """Put those of the rows where they are kept."""
        for name in {row.text for row in rows}:
            if (picture := self.store.get(name)) is not None:
                kept.put(picture)


@dataclass(frozen=True, slots=True, kw_only=True)
class ImagesRead:
    """The rows, and where their pictures wait."""

    rows: "Sequence[Example]"
    waiting: WaitingPictures


def read(files: Files) -> ImagesRead:
    """The images of a folder for each class, or of a table that names files beside it."""
    from perennial.continual.errors import ConfigurationError
    from perennial.continual.images.files import image_rows

    if files.items is not None:
        raise ConfigurationError(f"--items {files.items} is a catalogue, which goes with --task ranking; leave it out")
    waiting = WaitingPictures()
    rows = image_rows(files.data, waiting.store, reading=files.reading, attributes=files.attributes)
    return ImagesRead(rows=rows, waiting=waiting)


def plan(images_read: ImagesRead, learning: "LearningSettings") -> dict[str, Any]:
    """How many images and labels there are."""
    from perennial.continual.errors import InputError
    from perennial.continual.learning.learners import learner_named
    from perennial.ops.making.encoder_for import encoder_for

    counted = _counted(images_read.rows)
    try:
        learner_named(learning.learner).first_rows(images_read.rows)
        choice = encoder_for(learning, (), "image_classification")
    except InputError as refusal:
        return counted | {"then": f"refused: {refusal}"}
    return counted | {"encoder": choice.encoder, "then": "train and publish version 1"}


def make(config: Path, model: str, images_read: ImagesRead) -> dict[str, Any]:
    """Keep the pictures, train the version, and say how it does on images that were kept back."""
    from perennial.continual.images import ImageStore
    from perennial.continual.learning.card import read_card
    from perennial.ops.cli.progress import stages
    from perennial.ops.commands.first_version import check_unserved, first_version

    with session(config) as parts, stages(f"first version of {model}") as on_progress:
        check_unserved(parts.ledger, parts.workspace, model)
        images_read.waiting.keep(images_read.rows, ImageStore(parts.workspace.images(model)))
        made = first_version(parts.ledger, parts.workspace, model, images_read.rows, on_progress)
    figures = dict(read_card(made.bundle).metrics)
    counted = _counted(images_read.rows)
    for line in _lines(figures, counted):
        say(line)
    return {
        "model": model,
        "version": made.version,
        "rows": made.rows,
        **counted,
        "encoder": None if made.encoder is None else made.encoder.encoder,
        "bundle": str(made.bundle),
        "held_out": figures,
    }


def _counted(rows: "Sequence[Example]") -> dict[str, Any]:
    labels = Counter(row.label for row in rows)
    return {
        "images": len(rows),
        "different_images": len({row.text for row in rows}),
        "labels": len(labels),
        "most_frequent_label_share": round(max(labels.values(), default=0) / max(1, len(rows)), 4),
    }


def _lines(figures: dict[str, float], counted: dict[str, Any]) -> list[str]:
    if "holdout_accuracy" not in figures:
        return ["no image was kept back, so nothing tells how good the version is; give more images"]
    return [
        (
            f"{figures['holdout_accuracy']:.1%} of {figures['holdout_rows']:.0f} kept-back images get their label; "
            f"always naming the most frequent label would be right for {counted['most_frequent_label_share']:.1%}"
        )
    ]
