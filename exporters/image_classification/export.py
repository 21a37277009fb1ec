"""A trained image classifier on its way into a bundle; see `perennial.exporters.port.Exportable`."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from perennial.continual.errors import DataError, ExportFailed
from perennial.continual.images import PREPROCESSING_FILE, ImageStore, Picture, Preprocessing
from perennial.exporters.built import BuiltEngine
from perennial.exporters.bundle import Manifest, digest
from perennial.exporters.engine import Engine, Inputs
from perennial.exporters.image_classification.answering import ImageAnswerer
from perennial.exporters.image_classification.module import build_image_module
from perennial.exporters.image_classification.part import ImagePart
from perennial.exporters.image_classification.signature import IMAGE_ENGINE, PIXELS
from perennial.exporters.onnx import OnnxGraph, export_onnx
from perennial.exporters.port import HeldOut
from perennial.exporters.signature import EngineSignature
from perennial.exporters.text_classification.export import LabelsExportable
from perennial.exporters.text_classification.part import digest_labels
from perennial.exporters.text_classification.texts import read_texts

if TYPE_CHECKING:
    from torch.nn import Module

__all__ = ["ImageExportable"]

_GOLDEN = 2  # rows: each is as many numbers as a picture has
_PATCHES = 8  # of a drawn picture, in each direction


class ImageExportable(LabelsExportable):
    """A learner's folder, or a bundle's, which has the same files."""

    @property
    def prepared(self) -> Preprocessing:
        """How its encoder wants pictures."""
        return Preprocessing.read(self.trained.encoder)

    @property
    def signature(self) -> EngineSignature:
        """With the number of labels, the embedding's length and the size of a picture."""
        height, width = self.prepared.size
        return IMAGE_ENGINE.bound(
            classes=len(self.trained.labels), dimension=self.trained.dimension, height=height, width=width
        )

    @property
    def longest_row(self) -> int:
        """Pictures are not padded."""
        return 0

    def sidecars(self, folder: Path) -> None:
        """Preparation, labels, card, head and sums."""
        self.prepared.write(folder)
        self.write_model_files(folder)

    def part(self, folder: Path) -> Mapping[str, Any]:
        """See `ImagePart`."""
        height, width = self.prepared.size
        part = ImagePart(
            classes=len(self.trained.labels),
            dimension=self.trained.dimension,
            height=height,
            width=width,
            max_length=self.trained.max_length,
            labels_sha256=digest_labels(self.trained.labels),
            preprocessing_sha256=digest(folder / PREPROCESSING_FILE),
        )
        return asdict(part)

    def module(self) -> "Module":
        """Encoder and head."""
        return build_image_module(self.trained.encoder, self.trained.head)

    def graph(self, target: Path, module: "Module") -> OnnxGraph:
        """With a dynamic batch, and the head's weights by name: an encoder of images never changes under a head."""
        return export_onnx(self.trained, target, module=module, picture=(*self.prepared.size, 3))

    def swap(self, bundle: Path, manifest: Manifest, folder: Path) -> BuiltEngine:
        """The head alone, while the encoder is the same."""
        if manifest.encoder_fingerprint != self.encoder_fingerprint:
            raise ExportFailed(f"version {manifest.version} stands on another encoder of images; export in full")
        return super().swap(bundle, manifest, folder)

    def exact(self, folder: Path | None) -> None:
        """Nothing is known of pictures: their embeddings take less time than their proof by them would."""
        del folder

    def answerer(self, engine: Engine, folder: Path) -> ImageAnswerer:
        """With the preparation and labels in `folder`."""
        return ImageAnswerer(engine=engine, prepared=Preprocessing.read(folder), labels=self.trained.labels)

    def read(self, path: Path, memory: Path | None = None) -> HeldOut:
        """The pictures that a file names, out of the folder that keeps them, and labels where the file has them."""
        names, labels = read_texts(path)
        if memory is None:
            raise DataError(f"{path} names images, and no folder of them is given; give the spec its memory")
        store = ImageStore(memory)
        pictures = [store.get(name) for name in names]
        there = [place for place, picture in enumerate(pictures) if picture is not None]
        if not there:
            raise DataError(f"{memory} has none of the {len(names)} images of {path}; restore it")
        found: list[Picture | None] = pictures
        return HeldOut(inputs=found, targets=labels).at(there)

    def calibration(self, folder: Path, inputs: Sequence[Any]) -> list[list[int]]:
        """None: it comes in no precision that is scaled by rows."""
        return []

    def golden(self, folder: Path, seed: int) -> Sequence[Inputs]:
        """Patches of colour drawn by chance."""
        height, width = Preprocessing.read(folder).size
        rng = np.random.default_rng(seed)
        down, across = (np.arange(side) * _PATCHES // side for side in (height, width))
        drawn = rng.integers(256, size=(_GOLDEN, _PATCHES, _PATCHES, 3), dtype=np.uint8)
        return [{PIXELS: patches[down][:, across][None]} for patches in drawn]
