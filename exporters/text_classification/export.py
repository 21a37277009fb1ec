"""A trained text classifier on its way into a bundle; see `perennial.exporters.port.Exportable`."""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from perennial.continual.atomic_file import share_file
from perennial.continual.learning.card import MODEL_FILE
from perennial.continual.learning.open_set import OPEN_SET_FILE
from perennial.continual.learning.replies.matcher import MATCHER_FILE
from perennial.continual.learning.told_sums import TOLD_FILE
from perennial.continual.learning.trained import HEAD_FILE, OTHERS_FILE, PROOF_FILE, STATISTICS_FILE
from perennial.exporters.built import BuiltEngine
from perennial.exporters.bundle import Manifest, digest
from perennial.exporters.engine import Engine, Inputs
from perennial.exporters.onnx import OnnxGraph, export_onnx
from perennial.exporters.port import HeldOut
from perennial.exporters.signature import EngineSignature
from perennial.exporters.text_classification.answering import TextAnswerer
from perennial.exporters.text_classification.golden_rows import golden_rows
from perennial.exporters.text_classification.head_arithmetic import HeadOnEngine
from perennial.exporters.text_classification.known_embeddings import KnownEmbeddings
from perennial.exporters.text_classification.part import LABELS_FILE, TOKENIZER_FILE, TextPart, digest_labels
from perennial.exporters.text_classification.signature import TEXT_ENGINE
from perennial.exporters.text_classification.texts import read_texts
from perennial.exporters.text_classification.tokens import TextTokenizer, padded
from perennial.exporters.trained import TrainedModel
from perennial.exporters.weight_swap import swap_weights

if TYPE_CHECKING:
    from torch.nn import Module

__all__ = ["LabelsExportable", "TextExportable"]

_EXACT = "exact"  # a folder of embeddings


class LabelsExportable:
    """What classifiers have in common, whatever they read: a head and labels on an encoder."""

    def __init__(self, trained: TrainedModel) -> None:
        self.trained = trained

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read the card and the head.

        Raises:
            DataError: the folder holds no trained model.
        """
        return cls(TrainedModel.load(folder))

    @property
    def encoder_fingerprint(self) -> str:
        """The encoder's."""
        return self.trained.encoder_fingerprint

    def write_model_files(self, folder: Path) -> None:
        """Labels, card, head, sums, and the encoder where it lies beside the card."""
        trained = self.trained
        labels = json.dumps(list(trained.labels), ensure_ascii=False)
        (folder / LABELS_FILE).write_text(labels + "\n", encoding="utf-8")
        for name in (MODEL_FILE, HEAD_FILE, PROOF_FILE, OPEN_SET_FILE, MATCHER_FILE):
            if (trained.folder / name).is_file():
                shutil.copyfile(trained.folder / name, folder / name)
        for name in (STATISTICS_FILE, OTHERS_FILE, TOLD_FILE):
            if (trained.folder / name).is_file():
                share_file(trained.folder / name, folder / name)
        if trained.encoder.is_relative_to(trained.folder):
            inside = folder / trained.encoder.relative_to(trained.folder)
            shutil.copytree(trained.encoder, inside, copy_function=shutil.copyfile)

    def swap(self, bundle: Path, manifest: Manifest, folder: Path) -> BuiltEngine:
        """Seconds instead of minutes while the encoder is the same."""
        return swap_weights(bundle, manifest, self.trained, folder)

    def own_arithmetic(self, engine: Engine) -> Engine | None:
        """That of a solved head, on embeddings."""
        return HeadOnEngine(engine, self.trained.head) if self.trained.head else None


class TextExportable(LabelsExportable):
    """A learner's folder, or a bundle's, which has the same files."""

    @property
    def signature(self) -> EngineSignature:
        """With the number of labels and the embedding's length."""
        return TEXT_ENGINE.bound(classes=len(self.trained.labels), dimension=self.trained.dimension)

    @property
    def longest_row(self) -> int:
        """The tokens that are read of a text."""
        return self.trained.max_length

    def sidecars(self, folder: Path) -> None:
        """Tokenizer, labels, card, head, sums, and the encoder where it was tuned."""
        # The large files come first. Only a file that has lain unchanged for a moment has its digest kept (`digest`);
        # the tokenizer is written meanwhile. One written last may be read and hashed twice.
        self.write_model_files(folder)
        self.trained.write_tokenizer(folder / TOKENIZER_FILE)

    def part(self, folder: Path) -> Mapping[str, Any]:
        """See `TextPart`."""
        part = TextPart(
            classes=len(self.trained.labels),
            dimension=self.trained.dimension,
            max_length=self.trained.max_length,
            labels_sha256=digest_labels(self.trained.labels),
            tokenizer_sha256=digest(folder / TOKENIZER_FILE),
        )
        return asdict(part)

    def module(self) -> "Module":
        """Encoder, masked mean and head."""
        return self.trained.module()

    def graph(self, target: Path, module: "Module") -> OnnxGraph:
        """With dynamic batch and sequence, and named weights."""
        return export_onnx(self.trained, target, module=module)

    def exact(self, folder: Path | None) -> KnownEmbeddings | None:
        """The embeddings in FP32 of rows that proved this encoder before."""
        if folder is None or not self.trained.head:
            return None
        return KnownEmbeddings(
            folder / _EXACT,
            encoder=self.encoder_fingerprint,
            max_length=self.trained.max_length,
            dimension=self.trained.dimension,
        )

    def answerer(self, engine: Engine, folder: Path) -> TextAnswerer:
        """With the tokenizer and labels in `folder`."""
        return TextAnswerer(engine=engine, tokenizer=TextTokenizer(folder / TOKENIZER_FILE), labels=self.trained.labels)

    def read(self, path: Path, memory: Path | None = None) -> HeldOut:
        """Texts and, where the file has them, labels."""
        del memory
        texts, labels = read_texts(path)
        return HeldOut(inputs=texts, targets=labels)

    def calibration(self, folder: Path, inputs: Sequence[str]) -> list[list[int]]:
        """Token ids of each text."""
        return TextTokenizer(folder / TOKENIZER_FILE).encode(inputs)

    def golden(self, folder: Path, seed: int) -> Sequence[Inputs]:
        """Class names and token ids drawn by chance."""
        rows = golden_rows(folder / TOKENIZER_FILE, self.trained.labels, max_length=self.trained.max_length, seed=seed)
        return [padded([row]) for row in rows]
