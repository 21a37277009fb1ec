"""Whether a window's mix of answers was there before: a mix that returns is a season, a new one is news."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

from perennial.continual.drift.compare import Season, labels_of
from perennial.continual.drift.seasons import PERIODS, mixes_alike
from perennial.continual.drift.settings import Signal
from perennial.ops.ledger import DriftReportRow
from perennial.ops.ledger.ports import DriftReports

__all__ = ["MixHistory", "mix_history"]

_LOOKED_AT = 1_000  # windows before
_SAME_PHASE = timedelta(hours=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class MixHistory:
    """In which of the windows `compared`, all of one version and before this one, the answers were mixed like here.

    They reach back to `since`; this one ends at `at`. `season` is what the same hours before said of its mix when it
    was compared, `window_season` what they said of all that it differs in, by the `period`.
    """

    moved: bool
    compared: int
    like: tuple[datetime, ...]
    since: datetime | None = None
    at: datetime | None = None
    season: Season = Season.NOT_ASKED
    window_season: Season = Season.NOT_ASKED
    period: str = ""

    @property
    def unseen(self) -> tuple[str, ...]:
        """The periods that the windows before do not span once, of which nothing can be told yet."""
        if self.since is None or self.at is None:
            return tuple(PERIODS)
        return tuple(name for name, period in PERIODS.items() if self.at - self.since < period)

    @property
    def same_phase(self) -> tuple[str, ...]:
        """The periods at whose same phase, within an hour, an earlier window was mixed like here."""
        return tuple(name for name, period in PERIODS.items() if any(self._in_phase(at, period) for at in self.like))

    def _in_phase(self, at: datetime, period: timedelta) -> bool:
        if self.at is None or self.at - at < period - _SAME_PHASE:
            return False
        off = (self.at - at) % period
        return min(off, period - off) <= _SAME_PHASE

    @property
    def sentence(self) -> str:
        """Return it in words."""
        return "; ".join(part for part in (self._mix_sentence, self._season_sentence) if part)

    @property
    def _season_sentence(self) -> str:
        """What the same hours before say of a window that is unlike the reference in more than its mix."""
        match self.window_season:
            case Season.RETURNING:
                return f"it is like the same hours of {self.period} before, so it returns and is no drift"
            case Season.NEW:
                return "the same hours of the days and weeks before were unlike it: it is new"
            case Season.UNTOLD:
                return f"whether it returns with {self.period} cannot be told yet: this version has not seen one"
            case Season.NOT_ASKED:
                return ""

    @property
    def _mix_sentence(self) -> str:
        if self.moved and self.season is Season.NEW and not self.like:
            return (
                "the answers are mixed in a new way: no window before had it, nor the same hours of the days and weeks "
                "before"
            )
        if not self.moved:
            return "the answers are mixed as in the reference"
        if not self.compared:
            return (
                "the answers are mixed in another way than in the reference; no earlier window tells whether it returns"
            )
        if not self.like:
            return f"the answers are mixed in a way that none of the {self.compared} windows before had{self._doubt}"
        phase = f", at the same time of {' and of '.join(self.same_phase)}" if self.same_phase else ""
        return (
            f"the answers are mixed in another way than in the reference, and as in {len(self.like)} of the "
            f"{self.compared} windows before, the newest of {self.like[0]:%Y-%m-%d %H:%M} UTC: a mix that "
            f"returns{phase}"
        )

    @property
    def _doubt(self) -> str:
        """What the windows before are too short for."""
        if not self.unseen:
            return ""
        return f"; whether it returns with {' or '.join(self.unseen)} cannot be told yet: they do not span one"

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        told = {"unseen": self.unseen, "same_phase": self.same_phase, "sentence": self.sentence}
        return {**asdict(self), **told}


def mix_history(ledger: DriftReports, report: DriftReportRow) -> MixHistory:
    """What the windows before a report say of its mix of answers; those of earlier releases kept no mix."""
    here, compared = report.payload.get("answers"), report.payload["comparison"]
    moved = any(each["signal"] == Signal.PREDICTION.value and each["drifted"] for each in compared["signals"])
    before = [
        row
        for row in ledger.drift_reports(report.model, limit=_LOOKED_AT)
        if row.version == report.version and (row.id or 0) < (report.id or 0) and "answers" in row.payload
    ]
    if here is None:
        return MixHistory(moved=moved, compared=0, like=())
    like = [row.window_to or row.at for row in before if _alike(here, row.payload["answers"], seed=report.id or 0)]
    return MixHistory(
        moved=moved,
        compared=len(before),
        like=tuple(sorted(like, reverse=True)),
        since=min((row.window_from or row.window_to or row.at for row in before), default=None),
        at=report.window_to or report.at,
        season=Season(compared.get("mix_season", "")),
        window_season=Season(compared.get("season", "")),
        period=compared.get("period", ""),
    )


def _alike(here: Mapping[str, int], there: Mapping[str, int], *, seed: int) -> bool:
    return mixes_alike(labels_of(there), labels_of(here), seed=seed)
