"""What a manifest says of a text classifier beside what it says of every bundle, and whether the files agree."""

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from perennial.continual.errors import BundleRejected
from perennial.exporters.signature import EngineSignature
from perennial.exporters.tasks import read_part
from perennial.exporters.text_classification.signature import TEXT_ENGINE

__all__ = [
    "LABELS_FILE",
    "TOKENIZER_FILE",
    "TextPart",
    "check_labels",
    "check_same_labels",
    "digest_labels",
    "read_labels",
]

LABELS_FILE, TOKENIZER_FILE = "labels.json", "tokenizer.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class TextPart:
    """How many classes and dimensions, how many tokens are read of a text, and which labels and tokenizer."""

    classes: int
    dimension: int
    max_length: int
    labels_sha256: str
    tokenizer_sha256: str

    def __post_init__(self) -> None:
        if self.classes < 1 or self.dimension < 1 or self.max_length < 1:
            raise BundleRejected(
                f"a text classifier's classes {self.classes}, dimension {self.dimension} and max_length "
                f"{self.max_length} must each be at least 1; export the version again"
            )

    @classmethod
    def read(cls, part: Mapping[str, Any]) -> "TextPart":
        """What a text classifier's manifest holds as `part`.

        Raises:
            BundleRejected: a field is missing, surplus or of the wrong kind.
        """
        return read_part(cls, part)

    @property
    def signature(self) -> EngineSignature:
        """The engine's, with these sizes."""
        return TEXT_ENGINE.bound(classes=self.classes, dimension=self.dimension)

    def fields(self, task: str = "text_classification") -> Mapping[str, Any]:
        """The fields of a manifest that follow from it, for a task whose models are classifiers."""
        return {"task": task, "signature": self.signature, "part": asdict(self)}


def digest_labels(labels: Sequence[str]) -> str:
    """A fingerprint of the label set, order included: logit i means `labels[i]`."""
    return hashlib.sha256(json.dumps(list(labels), ensure_ascii=False).encode()).hexdigest()


def read_labels(folder: Path) -> tuple[str, ...]:
    """The labels of a bundle in logit order."""
    return tuple(json.loads((folder / LABELS_FILE).read_text(encoding="utf-8")))


def check_labels(folder: Path, part: Mapping[str, Any], files: Collection[str]) -> None:
    """Compare the labels with the manifest's.

    Raises:
        BundleRejected: they are not the same.
    """
    promised = TextPart.read(part)
    check_same_labels(folder, promised.classes, promised.labels_sha256, files)


def check_same_labels(folder: Path, classes: int, sha256: str, files: Collection[str]) -> None:
    """Compare the labels with those that a manifest promises.

    Raises:
        BundleRejected: they are not the same.
    """
    if LABELS_FILE not in files:
        raise BundleRejected(f"{folder}: the manifest names no {LABELS_FILE}; export the version again")
    labels = read_labels(folder)
    if len(labels) != classes or digest_labels(labels) != sha256:
        raise BundleRejected(
            f"{folder}: {LABELS_FILE} has {len(labels)} labels that are not the {classes} of the manifest"
        )
