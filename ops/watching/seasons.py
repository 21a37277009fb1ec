"""The same hours of earlier days and weeks, read out of the traffic log for whoever wonders at a window."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa

from perennial.continual.drift.dependence import CountingRule
from perennial.continual.drift.seasons import PERIODS, Phase, Seasons
from perennial.continual.drift.window import Window
from perennial.ops.traffic import TrafficLog
from perennial.ops.traffic.columns import columns_of, conform
from perennial.ops.watching.windows import Place, TrafficAhead, window_of

__all__ = ["PhaseReader"]

_PERIODS_BACK = 4
_TIMES = 2  # times a window's rows that its phases are told by
_WIDER = (timedelta(0), timedelta(minutes=15), timedelta(hours=1))  # on each side, where the hours before had few rows
_BETWEEN = (0.25, 0.5, 0.75)  # of a period before a window: the times that tell whether traffic was other meanwhile
_MOST_ROWS = 20  # times a window's rows that are read of one span: copies and loud callers are among them
_MICROSECOND = timedelta(microseconds=1)


class PhaseReader:
    """Reads what a version answered at a window's time of day and of week.

    What is read is bounded by the window's own rows, whatever lies in the log, and by no more than fourteen spans of
    time.
    """

    def __init__(
        self,
        traffic: TrafficLog,
        version: int,
        *,
        seasons: Seasons,
        rule: CountingRule | None,
        told: Callable[[Window], Window],
    ) -> None:
        """`told` gives a window with what became of its answers, where a task tells it."""
        self._traffic, self._version, self._seasons, self._rule, self._told = traffic, version, seasons, rule, told

    def phases(self, window: Window, reference: Window, like_until: datetime | None) -> dict[str, Phase]:
        """What lies one to four periods before the window, nearest first, as far as it came and went.

        The version began with the rows of its reference. The newest window that was like it ended at `like_until`;
        what came after may be the very change that lasts, and is left out. Rows of other times since come with it: of
        thousands of windows of a weak change, some are like the reference. Nothing is known of a window without times.
        """
        if window.times is None or reference.times is None:
            return {}
        begun = _moment(reference.times.min())
        first, last = _moment(window.times[0]), _moment(window.times[-1])
        found = {}
        for name in self._seasons.periods:
            period = PERIODS[name]
            if first - period < begun:
                found[name] = Phase(rows=None)
                continue
            spans = [
                (first - back * period, last - back * period)
                for back in range(1, _PERIODS_BACK + 1)
                if first - back * period >= begun and (like_until is None or last - back * period <= like_until)
            ]
            rows = self._rows(spans, len(window), latest=like_until)
            others = [(first - part * period, last - part * period) for part in _BETWEEN] if len(rows) else []
            found[name] = Phase(
                rows=rows,
                between=tuple(self._rows([span], len(window)) for span in others),
                like_since=like_until is not None,
            )
        return found

    def _rows(self, spans: Sequence[tuple[datetime, datetime]], rows: int, *, latest: datetime | None = None) -> Window:
        """What counts in the spans up to `latest`, of wider ones where they have fewer than a window's rows."""
        parts: list[pa.Table] = []
        for wider in _WIDER:
            parts = []
            for begin, end in spans:
                until = end + wider if latest is None else min(end + wider, latest)
                parts.append(self._counted(begin - wider, until, _TIMES * rows))
                if sum(part.num_rows for part in parts) >= _TIMES * rows:
                    break
            if sum(part.num_rows for part in parts) >= rows:
                break
        task = self._traffic.task
        table = conform(parts, [*columns_of(task), "embedding"], task)  # an hour without requests has no embeddings
        return self._told(window_of(table, task))

    def _counted(self, begin: datetime, end: datetime, rows: int) -> pa.Table:
        ahead = TrafficAhead(
            self._traffic,
            self._version,
            after=Place(begin - _MICROSECOND, "~"),
            until=end + _MICROSECOND,
            rule=self._rule,
            rows=_MOST_ROWS * rows,
        )
        return ahead.up_to(rows)


def _moment(time: np.datetime64) -> datetime:
    moment: datetime = time.astype("datetime64[us]").item()
    return moment.replace(tzinfo=UTC)
