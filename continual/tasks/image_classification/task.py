"""Image classification: a row names a picture and has its label; the picture itself lies in a store by that name."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Any, ClassVar

from perennial.continual.errors import DataError
from perennial.continual.images.picture import is_image_name
from perennial.continual.preparation import KnownLabels, shown
from perennial.continual.records import Example
from perennial.continual.task import ColumnKind
from perennial.continual.tasks.text_classification import TextClassification

__all__ = ["ImageClassification"]


@dataclass(frozen=True, slots=True)
class ImageClassification(TextClassification):
    """A label is learnt, scored and judged as that of a text is. The text is the picture's name, and tells nothing.

    >>> task = ImageClassification()
    >>> task.score("cat", "cat"), task.name
    (1.0, 'image_classification')
    """

    name: ClassVar[str] = "image_classification"
    log_columns: ClassVar[Mapping[str, ColumnKind]] = MappingProxyType(
        {
            **TextClassification.log_columns,
            "brightness": ColumnKind.REAL,
            "width": ColumnKind.WHOLE,
            "height": ColumnKind.WHOLE,
        }
    )

    def read_row(self, raw: Mapping[str, Any], *, now: datetime, known: KnownLabels | None = None) -> Example:
        """A row as a labelled text's, whose text is the name of an image.

        Raises:
            DataError: it is none, or a field breaks its rule.
        """
        row = TextClassification.read_row(self, raw, now=now, known=known)
        self.redact(row.text)
        return row

    def watched(self, logged: Mapping[str, Sequence[Any]]) -> Mapping[str, Sequence[Any]]:
        """What a classifier's is, with how bright the images were, and the root of their pixels as they were sent."""
        kept = {name: logged[name] for name in TextClassification.log_columns if name != "tokens"}
        sizes = [math.sqrt(width * height) for width, height in zip(logged["width"], logged["height"], strict=True)]
        return kept | {"tokens": [0] * len(sizes), "brightness": logged["brightness"], "size": sizes}

    def redact(self, task_input: str) -> tuple[str, bool]:
        """The name, which holds nothing to take out.

        Raises:
            DataError: it is no name of an image.
        """
        if not is_image_name(task_input):
            raise DataError(f"{shown(task_input)} is no name of an image; label an answered request, or import a file")
        return task_input, False

    def words(self, task_input: str) -> Sequence[str]:
        """The name alone: no part of it is like that of another."""
        return (task_input,)
