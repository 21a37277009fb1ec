"""Whether a window's mix of answers was there before: a mix that returns is a season, a new one is news."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import numpy as np

from perennial.continual.drift.compare import labels_of
from perennial.continual.drift.settings import DriftSettings, Signal
from perennial.continual.drift.statistics import chi_square
from perennial.ops.ledger import DriftReportRow
from perennial.ops.ledger.ports import DriftReports

__all__ = ["MixHistory", "mix_history"]

_LOOKED_AT = 1_000  # windows before
_LEVEL = 0.05
_PERMUTATIONS = 199


@dataclass(frozen=True, slots=True, kw_only=True)
class MixHistory:
    """In which of the windows `compared`, all of one version and before this one, the answers were mixed like here."""

    moved: bool
    compared: int
    like: tuple[datetime, ...]

    @property
    def sentence(self) -> str:
        """Return it in words."""
        if not self.moved:
            return "the answers are mixed as in the reference"
        if not self.compared:
            return (
                "the answers are mixed in another way than in the reference; no earlier window tells whether it returns"
            )
        if not self.like:
            return f"the answers are mixed in a way that none of the {self.compared} windows before had"
        return (
            f"the answers are mixed in another way than in the reference, and as in {len(self.like)} of the "
            f"{self.compared} windows before, the newest of {self.like[0]:%Y-%m-%d %H:%M} UTC: a mix that returns"
        )

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {**asdict(self), "sentence": self.sentence}


def mix_history(ledger: DriftReports, report: DriftReportRow) -> MixHistory:
    """What the windows before a report say of its mix of answers; those of earlier releases kept no mix."""
    here = report.payload.get("answers")
    moved = any(
        each["signal"] == Signal.PREDICTION.value and each["drifted"]
        for each in report.payload["comparison"]["signals"]
    )
    before = [
        row
        for row in ledger.drift_reports(report.model, limit=_LOOKED_AT)
        if row.version == report.version and (row.id or 0) < (report.id or 0) and "answers" in row.payload
    ]
    if here is None:
        return MixHistory(moved=moved, compared=0, like=())
    like = [row.window_to or row.at for row in before if _alike(here, row.payload["answers"], seed=report.id or 0)]
    return MixHistory(moved=moved, compared=len(before), like=tuple(sorted(like, reverse=True)))


def _alike(here: Mapping[str, int], there: Mapping[str, int], *, seed: int) -> bool:
    result = chi_square(
        labels_of(here),
        labels_of(there),
        rng=np.random.default_rng(seed),
        permutations=_PERMUTATIONS,
        floor=DriftSettings().floors[Signal.PREDICTION],
    )
    return result.p_value >= _LEVEL or not result.relevant
