"""Traffic whose requests depend on one another: retries, copies, loud callers, and mixes that turn with day and week.

Every stream is made of the same clean rows, so each alert in it is false. Requests have callers: a few thousand people,
each with a share of its own.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.drift_streams import joined
from benchmarks.drift_traffic import Traffic
from perennial.continual.drift import DriftMonitor, DriftSettings, ReferenceProfile, compare
from perennial.continual.drift.dependence import Counting, CountingRule
from perennial.continual.drift.monitor import MonitorState

__all__ = ["dependent", "found"]

_REFERENCE_ROWS, _WINDOW_ROWS = 600, 300
_CALLERS = 3_000
_DAY = 2_000  # requests a day of a quiet service
_BUSY_DAY = 200_000
_LATEST = 4_000  # requests after a change at which a stream is given up

Places = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stream:
    """Places of rows in the clean traffic, and who sent each."""

    rows: Places
    callers: list[str | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pool:
    """The clean rows by the class that they belong to."""

    by_class: tuple[Places, ...]

    @classmethod
    def of(cls, traffic: Traffic) -> "_Pool":
        return cls(by_class=tuple(np.flatnonzero(traffic.truth == name) for name in np.unique(traffic.truth)))

    def draw(self, weights: NDArray[np.float64], rng: np.random.Generator) -> Places:
        """One row for each row of the weights (requests, classes)."""
        cumulative = np.cumsum(weights, axis=1)
        chosen = (rng.random((len(weights), 1)) * cumulative[:, -1:] > cumulative).sum(axis=1)
        return np.array([rng.choice(self.by_class[each]) for each in chosen], dtype=np.int64)


def _people(rows: int, rng: np.random.Generator) -> list[str | None]:
    """Callers, some of whom come often."""
    return [f"person {number}" for number in rng.zipf(1.3, rows) % _CALLERS + rng.integers(_CALLERS, size=rows)]


def _flat(pool: _Pool, rows: int, rng: np.random.Generator) -> _Stream:
    return _Stream(rows=pool.draw(np.ones((rows, len(pool.by_class))), rng), callers=_people(rows, rng))


def _turning(ratio: float, period: int, *, odd: float = 0.5) -> Callable[[_Pool, int, np.random.Generator], _Stream]:
    """Half of the classes are `ratio` times as frequent in the later part `odd` of each period, the others before."""

    def make(pool: _Pool, rows: int, rng: np.random.Generator) -> _Stream:
        late = (np.arange(rows) % period) >= period * (1.0 - odd)
        half = np.arange(len(pool.by_class)) < len(pool.by_class) // 2
        weights = np.where(late[:, None] == half[None, :], ratio, 1.0)
        return _Stream(rows=pool.draw(weights, rng), callers=_people(rows, rng))

    return make


def _holiday(pool: _Pool, rows: int, rng: np.random.Generator) -> _Stream:
    """One odd day in thirty: a tenth of the classes is asked for five times as often."""
    odd = (np.arange(rows) // _DAY) % 30 == 20
    few = np.arange(len(pool.by_class)) < max(1, len(pool.by_class) // 10)
    weights = np.where(odd[:, None] & few[None, :], 5.0, 1.0)
    return _Stream(rows=pool.draw(weights, rng), callers=_people(rows, rng))


def _repeated(share: float, times: int, *, spread: int) -> Callable[[_Pool, int, np.random.Generator], _Stream]:
    """A share of the requests comes `times` times, the copies within `spread` requests of the first."""

    def make(pool: _Pool, rows: int, rng: np.random.Generator) -> _Stream:
        first = _flat(pool, int(rows / (1 + share * (times - 1))), rng)
        copies = np.where(rng.random(len(first.rows)) < share, times, 1)
        source = np.repeat(np.arange(len(first.rows)), copies)
        later = np.concatenate([np.arange(count) for count in copies])
        order = np.argsort(source + np.where(later > 0, rng.random(len(source)) * spread, 0.0), kind="stable")
        source = source[order]
        return _Stream(rows=first.rows[source], callers=[first.callers[place] for place in source])

    return make


def _loud(share: float) -> Callable[[_Pool, int, np.random.Generator], _Stream]:
    """One caller, who asks about three things, sends a share of the requests in every fifth stretch of 600."""

    def make(pool: _Pool, rows: int, rng: np.random.Generator) -> _Stream:
        stream = _flat(pool, rows, rng)
        own = np.concatenate(pool.by_class[:3])
        loud = ((np.arange(rows) // 600) % 5 == 3) & (rng.random(rows) < share)
        places = np.where(loud, rng.choice(own, rows), stream.rows)
        callers = ["partner" if by else caller for by, caller in zip(loud, stream.callers, strict=True)]
        return _Stream(rows=places, callers=callers)

    return make


_STREAMS: dict[str, Callable[[_Pool, int, np.random.Generator], _Stream]] = {
    "independent": _flat,
    **{f"retries {share:.0%}": _repeated(share, 5, spread=20) for share in (0.05, 0.1, 0.3)},
    "five copies of everything": _repeated(1.0, 5, spread=5),
    **{f"one caller {share:.0%}": _loud(share) for share in (0.1, 0.2, 0.3)},
    **{f"day cycle {ratio}:1": _turning(ratio, _DAY) for ratio in (2, 4)},
    **{
        f"week cycle x{ratio}, {day} a day": _turning(ratio, 7 * day, odd=2 / 7)
        for ratio in (1.5, 3)
        for day in (_DAY, _BUSY_DAY)
    },
    "holidays": _holiday,
}


def dependent(traffic: Traffic, requests: int) -> Iterator[dict[str, Any]]:
    """One row a stream: alerts, and mixes told, with every request counted and by the rule."""
    pool = _Pool.of(traffic)
    for number, (kind, make) in enumerate(_STREAMS.items()):
        rng = np.random.default_rng([23, number])
        stream = make(pool, requests, rng)
        row: dict[str, Any] = {"kind": kind, "requests": len(stream.rows), "promised": max(1.0, requests / 50_000)}
        for name, rule, settings in (
            ("", CountingRule(), DriftSettings()),
            ("_without", CountingRule(copies_within=0, caller_share=1.0), DriftSettings(mix_votes=True)),
        ):
            alerts, mixes, windows = _watched(traffic, stream, rule, settings)
            row |= {f"alerts{name}": alerts, f"mixes_told{name}": mixes, f"windows{name}": windows}
        yield row


def _watched(traffic: Traffic, stream: _Stream, rule: CountingRule, settings: DriftSettings) -> tuple[int, int, int]:
    """Alerts, mixes told and windows of a stream; the first rows that count are the reference."""
    rng = np.random.default_rng(29)
    texts, answers = traffic.clean.texts[stream.rows], traffic.clean.predictions[stream.rows]
    counts = stream.rows[Counting(rule).counted(stream.callers, texts.tolist(), answers.tolist())]
    reference = ReferenceProfile.build(traffic.clean.rows(counts[:_REFERENCE_ROWS]), version=1, rng=rng)
    monitor = DriftMonitor(settings=settings)
    state: MonitorState = monitor.start(1, now_request=_REFERENCE_ROWS)
    alerts = mixes = windows = 0
    for end in range(_REFERENCE_ROWS + _WINDOW_ROWS, len(counts) + 1, _WINDOW_ROWS):
        current = traffic.clean.rows(counts[end - _WINDOW_ROWS : end])
        state, signal = monitor.update(state, compare(reference, current, settings, rng), end)
        alerts, mixes, windows = alerts + signal.alert, mixes + signal.mix, windows + 1
    return alerts, mixes, windows


def found(traffic: Traffic, repeats: int) -> Iterator[dict[str, Any]]:
    """How many requests a real change takes until it is told, where a tenth of the requests is sent five times."""
    pool = _Pool.of(traffic)
    for kind in ("new intents 30%", "new intents 10%", "label shift x3 on a tenth"):
        delays: list[int] = []
        for repeat in range(repeats):
            rng = np.random.default_rng([31, repeat])
            stream = _repeated(0.1, 5, spread=20)(pool, 2_000 + 2 * _LATEST, rng)
            delay = _delay(traffic, pool, stream, kind, rng)
            delays += [] if delay is None else [delay]
        yield {
            "kind": kind,
            "repeats": repeats,
            "found": len(delays) / repeats,
            "requests_that_count_median": float(np.median(delays)) if delays else None,
        }


def _delay(traffic: Traffic, pool: _Pool, stream: _Stream, kind: str, rng: np.random.Generator) -> int | None:
    """Requests that count from the change to the word, None where it never came."""
    answers = traffic.clean.predictions[stream.rows].tolist()
    counted = Counting(CountingRule()).counted(stream.callers, traffic.clean.texts[stream.rows].tolist(), answers)
    counts = stream.rows[counted]
    change = _REFERENCE_ROWS + 2 * _WINDOW_ROWS + int(rng.integers(_WINDOW_ROWS))
    settings = DriftSettings()
    reference = ReferenceProfile.build(traffic.clean.rows(counts[:_REFERENCE_ROWS]), version=1, rng=rng)
    monitor = DriftMonitor(settings=settings)
    state = monitor.start(1, now_request=_REFERENCE_ROWS)
    if kind.startswith("label"):
        classes = len(pool.by_class)
        weights = np.where(np.arange(classes) < max(1, classes // 10), 3.0, 1.0)
        after = pool.draw(np.tile(weights, (len(counts) - change, 1)), rng)
        counts = np.concatenate([counts[:change], after])
    share = {"new intents 30%": 0.3, "new intents 10%": 0.1}.get(kind, 0.0)
    for end in range(_REFERENCE_ROWS + _WINDOW_ROWS, len(counts) + 1, _WINDOW_ROWS):
        current = traffic.clean.rows(counts[end - _WINDOW_ROWS : end])
        places = np.arange(end - _WINDOW_ROWS, end)
        new = (places >= change) & (rng.random(_WINDOW_ROWS) < share)
        if new.any():
            others = traffic.new_intents.rows(rng.integers(len(traffic.new_intents), size=int(new.sum())))
            current = joined(current.rows(np.flatnonzero(~new)), others)
        state, signal = monitor.update(state, compare(reference, current, settings, rng), end)
        if end > change and (signal.alert or signal.mix):
            return end - change
        if end - change > _LATEST:
            break
    return None
