"""After an outage the newest traffic is watched first; the gap that this leaves is sampled, and told."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Self

import numpy as np

from perennial.continual.drift.compare import compare
from perennial.continual.drift.dependence import CountingRule
from perennial.continual.drift.monitor import DriftSignal, MonitorState
from perennial.continual.drift.reference import ReferenceProfile
from perennial.continual.drift.settings import DriftSettings
from perennial.ops.ledger import DriftReportRow
from perennial.ops.store.state import WatchState
from perennial.ops.traffic import TrafficLog
from perennial.ops.watching.windows import CutWindow, Place, TrafficAhead, window_report

__all__ = ["BACKLOG", "Gap", "GapSample", "sampled_report"]

BACKLOG = 60_000  # requests behind the watch up to which it goes on in their order
_SAMPLES = 5  # windows out of a gap
_SPARE = 3  # times a window's rows that one is cut from


@dataclass(frozen=True, slots=True, kw_only=True)
class GapSample:
    """A window out of a gap, and the row behind which it was cut."""

    after: Place
    cut: CutWindow


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """The traffic between two rows that is not watched window by window; the second one is in it, the first is not."""

    after: Place
    until: Place

    @classmethod
    def behind(
        cls, traffic: TrafficLog, version: int, after: Place, *, newest: int, before: datetime, backlog: int = BACKLOG
    ) -> Self | None:
        """The gap that leaves the `newest` rows to be watched; None while at most `backlog` rows lie behind `after`.

        However many rows there are, only the keys of the newest are read.
        """
        keys = traffic.read(
            since=after.at, until=before, columns=["at", "prediction_id"], version=version, last=backlog + 1
        )
        if keys.num_rows <= backlog or keys.num_rows <= newest:
            return None
        last = keys.num_rows - newest - 1
        at: datetime = keys["at"][last].as_py()
        return cls(after=after, until=Place(at.astimezone(UTC), keys["prediction_id"][last].as_py()))

    def samples(
        self, traffic: TrafficLog, version: int, rows: int, *, rule: CountingRule | None, most: int = _SAMPLES
    ) -> Iterator[GapSample]:
        """Windows at even distances in time, oldest first. Each reads a few times its own rows."""
        step = (self.until.at - self.after.at) / most
        begun = self.after.at
        for number in range(1, most + 1):
            end = self.after.at + number * step
            keys = traffic.read(
                since=begun, until=end, columns=["at", "prediction_id"], version=version, last=_SPARE * rows + 1
            )
            if keys.num_rows > rows:
                first: datetime = keys["at"][0].as_py()
                after = Place(first.astimezone(UTC), keys["prediction_id"][0].as_py())
                cut = TrafficAhead(traffic, version, after=after, until=end, rule=rule).next(rows)
                if cut is not None:
                    yield GapSample(after=after, cut=cut)
            begun = end


def sampled_report(
    model: str,
    progress: WatchState,
    reference: ReferenceProfile,
    sample: GapSample,
    *,
    settings: DriftSettings,
    rule: CountingRule,
    seed: tuple[int, ...],
) -> DriftReportRow:
    """What a window out of a gap tells. It casts no vote: the present decides whether anything is to be done."""
    cut, state = sample.cut, MonitorState.from_json(progress.monitor or {})
    comparison = compare(reference, cut.window, settings, np.random.default_rng(seed))
    signal = DriftSignal(
        level=state.level,
        previous=state.level,
        alert=False,
        episode=state.episode,
        at_request=progress.requests,
        votes=sum(state.recent),
        signals=comparison.drifted_signals,
        reason="sampled out of a gap that was not watched; it casts no vote",
    )
    return window_report(
        model,
        progress.version,
        cut,
        comparison,
        signal,
        after=sample.after,
        counting_from=None,
        rule=rule,
        told={"drift_since": progress.drift_since, "report_wanted": False, "sequential": {}, "sampled": True},
    )
