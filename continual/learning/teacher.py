"""The answers of the model before: what distillation and dark replay hold the new one to."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from perennial.continual.atomic_file import written_whole
from perennial.continual.errors import DataError
from perennial.continual.learning.calibration import places_of
from perennial.continual.learning.card import read_card
from perennial.continual.learning.head import HeadWeights
from perennial.continual.learning.network_head import NETWORK_HEADS, NetworkHead
from perennial.continual.learning.spec import JobSpec
from perennial.continual.learning.texts import Texts
from perennial.continual.learning.trained import KERNEL_HEADS, read_head
from perennial.continual.learning.trainer import Corpus
from perennial.continual.preparation import row_hash
from perennial.continual.records import Example

__all__ = ["Teacher"]

_STORED = "replay_logits.safetensors"


@dataclass(frozen=True, slots=True, kw_only=True)
class Teacher:
    """Logits of the previous model, and those stored with replay rows in earlier trainings.

    A row's stored logits stay as they were when it first was a replay row, over the classes known then.

    >>> Teacher().labels
    ()
    """

    labels: tuple[str, ...] = ()  # classes of the previous model
    texts: Texts | None = None
    head: HeadWeights | NetworkHead | None = None
    stored: dict[int, tuple[tuple[str, ...], NDArray[np.float32]]] = field(default_factory=dict)

    @classmethod
    def of(cls, spec: JobSpec, texts: Texts) -> "Teacher":
        """The teacher that `previous` makes; one that knows nothing when there is none or its encoder is another."""
        if spec.previous is None:
            return cls()
        card, stored = read_card(spec.previous), _read_stored(spec.previous / _STORED)
        if card.encoder_fingerprint != texts.fingerprint:
            return cls(stored=stored)
        if card.head in KERNEL_HEADS:
            return cls(labels=card.labels, texts=texts, head=read_head(spec.previous), stored=stored)
        if card.head not in NETWORK_HEADS:
            return cls(stored=stored)  # a classifier taken over from elsewhere: no rows were learnt from it here
        own = NetworkHead.read(spec.previous, card.labels)
        return cls(labels=card.labels, texts=texts, head=own, stored=stored)

    def corpus(self, rows: Sequence[Example], labels: Sequence[str], *, remembered: bool = False) -> Corpus:
        """Rows as a corpus over `labels`; with `remembered`, logits stored earlier are used where there are some."""
        answers = np.full((len(rows), len(labels)), np.nan, dtype=np.float32)
        if rows and self.texts is not None:
            answers[:, places_of(self.labels, labels)] = self._logits([row.text for row in rows])
        for place, row in enumerate(rows if remembered else ()):
            known, logits = self.stored.get(row_hash(row.text), ((), np.zeros(0, np.float32)))
            if known:
                answers[place] = np.nan
                columns = places_of(known, labels)
                answers[place, columns[columns >= 0]] = logits[columns >= 0]
        truth = places_of([row.label for row in rows], labels).astype(np.int64)
        return Corpus(texts=tuple(row.text for row in rows), truth=truth, teacher=answers)

    def remember(self, folder: Path, rows: Sequence[Example], corpus: Corpus, labels: Sequence[str]) -> None:
        """Stores the logits that the replay rows were held to, for the next training."""
        from safetensors.numpy import save_file

        keys = np.array([row_hash(row.text) for row in rows], dtype=np.uint64)
        with written_whole(folder / _STORED) as temporary:
            tensors: dict[str, NDArray[Any]] = {"keys": keys, "logits": corpus.teacher}
            save_file(tensors, temporary, metadata={"labels": json.dumps(list(labels))})

    def _logits(self, texts: Sequence[str]) -> NDArray[np.floating[Any]]:
        if self.texts is None or self.head is None:
            return np.zeros((len(texts), 0))
        return self.head.logits(self.texts(texts), texts)


def _read_stored(path: Path) -> dict[int, tuple[tuple[str, ...], NDArray[np.float32]]]:
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        return {}
    try:
        with safe_open(path, framework="np") as file:
            labels = np.array(json.loads((file.metadata() or {})["labels"]), dtype=object)
            keys, logits = file.get_tensor("keys"), file.get_tensor("logits")
    except (OSError, SafetensorError, KeyError) as error:
        raise DataError(f"stored logits {path} cannot be read ({error}); delete the file to go on without") from error
    known = ~np.isnan(logits)
    return {
        key: (tuple(labels[row_known]), row[row_known])
        for key, row, row_known in zip(keys.tolist(), logits, known, strict=True)
        if row_known.any()
    }
