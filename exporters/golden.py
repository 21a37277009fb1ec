"""Known answers that travel with a bundle: a loaded engine must repeat them before it may serve."""

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from perennial.continual.arrays import pad
from perennial.continual.atomic_file import drop_leftovers, write_atomically
from perennial.continual.errors import BundleRejected
from perennial.exporters.bundle import MANIFEST, read_manifest, verify_bundle, write_manifest
from perennial.exporters.engine import Engine

__all__ = ["GOLDEN", "Golden", "forget_texts"]

GOLDEN = "golden.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Golden:
    """A few rows of token ids (unpadded) and the logits that the verified engine gave, each row alone.

    The rows are nobody's text (`exporters.golden_rows`). `tolerance` is the largest absolute logit difference that a
    healthy load may show, batching included.
    """

    input_ids: tuple[tuple[int, ...], ...]
    logits: tuple[tuple[float, ...], ...]
    tolerance: float

    @classmethod
    def of(cls, engine: Engine, rows: Sequence[Sequence[int]], *, tolerance: float) -> "Golden":
        """What the engine answers to each row alone, without the rows that it answers otherwise in a batch.

        Rows drawn by chance may lie where a low precision is coarse; where no row is left the tolerance gives way.
        """
        answers = [engine.infer(*pad([row]))[0][0] for row in rows]
        together = engine.infer(*pad(rows))[0]
        apart = [float(np.abs(one - other).max()) for one, other in zip(answers, together, strict=True)]
        steady = [place for place, difference in enumerate(apart) if difference <= tolerance / 2]
        kept = steady or range(len(rows))
        return cls(
            input_ids=tuple(tuple(rows[place]) for place in kept),
            logits=tuple(tuple(answers[place].tolist()) for place in kept),
            tolerance=tolerance if steady else 2 * max(apart),
        )

    def write(self, folder: Path) -> None:
        """Put `golden.json` into the folder."""
        record = {
            "tolerance": self.tolerance,
            "input_ids": [list(row) for row in self.input_ids],
            "logits": [list(row) for row in self.logits],
        }
        (folder / GOLDEN).write_text(json.dumps(record, ensure_ascii=False) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> "Golden":
        """The known answers of the bundle in `folder`; earlier releases kept texts beside them, which are not read."""
        raw = json.loads((folder / GOLDEN).read_text(encoding="utf-8"))
        return cls(
            input_ids=tuple(tuple(row) for row in raw["input_ids"]),
            logits=tuple(tuple(row) for row in raw["logits"]),
            tolerance=float(raw["tolerance"]),
        )

    def tokens(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """`input_ids` and `attention_mask` (rows, longest), padded with id 0: one request that probes every row."""
        return pad(self.input_ids)

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


def forget_texts(bundle: Path, erased: Collection[str]) -> bool:
    """Take the texts that earlier releases kept out of a bundle's known answers, and the rows of the erased ones.

    Returns whether anything had to change. Where every row is an erased one, all stay: without known answers the
    version could not be proved again. A load that falls between the two renames refuses the bundle once.

    Raises:
        BundleRejected: the bundle is not what its manifest says, so nothing is changed.
    """
    path = bundle / GOLDEN
    raw = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    texts = raw.get("texts")
    if not texts:
        return False
    kept = [place for place, text in enumerate(texts) if text not in erased]
    if not kept:
        return False
    for name in (GOLDEN, MANIFEST):
        drop_leftovers(bundle / name)
    verify_bundle(bundle)
    rows = {name: [raw[name][place] for place in kept] for name in ("input_ids", "logits")}
    write_atomically(path, json.dumps({"tolerance": raw["tolerance"], **rows}) + "\n")
    write_manifest(bundle, read_manifest(bundle))
    return True
