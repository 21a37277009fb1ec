"""Known answers that travel with a bundle: a loaded engine must repeat them before it may serve."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from continual.errors import BundleRejected
from exporters.runtime import Engine

__all__ = ["GOLDEN", "Golden"]

GOLDEN = "golden.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Golden:
    """A few texts, their token ids (unpadded) and the logits that the verified engine gave, each row alone.

    `tolerance` is the largest absolute logit difference that a healthy load may show, batching included.
    """

    texts: tuple[str, ...]
    input_ids: tuple[tuple[int, ...], ...]
    logits: tuple[tuple[float, ...], ...]
    tolerance: float

    def write(self, folder: Path) -> None:
        """Put `golden.json` into the folder."""
        record = {
            "tolerance": self.tolerance,
            "texts": list(self.texts),
            "input_ids": [list(row) for row in self.input_ids],
            "logits": [list(row) for row in self.logits],
        }
        (folder / GOLDEN).write_text(json.dumps(record, ensure_ascii=False) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> "Golden":
        """The known answers of the bundle in `folder`."""
        raw = json.loads((folder / GOLDEN).read_text(encoding="utf-8"))
        return cls(
            texts=tuple(raw["texts"]),
            input_ids=tuple(tuple(row) for row in raw["input_ids"]),
            logits=tuple(tuple(row) for row in raw["logits"]),
            tolerance=float(raw["tolerance"]),
        )

    def tokens(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """`input_ids` and `attention_mask` (rows, longest), padded with id 0: one request that probes every row."""
        longest = max(len(row) for row in self.input_ids)
        ids = np.zeros((len(self.input_ids), longest), dtype=np.int64)
        mask = np.zeros_like(ids)
        for index, row in enumerate(self.input_ids):
            ids[index, : len(row)] = row
            mask[index, : len(row)] = 1
        return ids, mask

    def difference(self, logits: npt.NDArray[np.float32]) -> float:
        """The largest absolute difference of `logits` (rows, C) from the known ones; inf where any is not finite."""
        known = np.asarray(self.logits, dtype=np.float32)
        if logits.shape != known.shape or not np.isfinite(logits).all():
            return float("inf")
        return float(np.abs(logits - known).max())

    def check(self, engine: Engine) -> float:
        """Ask the engine for every row and return the largest difference.

        Raises:
            BundleRejected: the engine does not repeat its known answers.
        """
        logits, _ = engine.infer(*self.tokens())
        seen = self.difference(logits)
        if not seen <= self.tolerance:
            raise BundleRejected(
                f"the loaded engine differs from its golden answers by {seen:.3g} (limit {self.tolerance:.3g}); "
                "do not route to it, export the version again on this kind of machine"
            )
        return seen
