"""Traffic whose requests depend on one another: retries, copies, loud callers, and what turns with day and week.

Every stream is made of the same rows, and in those of `dependent` each alert is false. Requests have callers: a few
thousand people, each with a share of its own. A request has a place in time, counted in requests since the version
began, so that a quiet service's week and a busy one's are told apart.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.drift_streams import joined
from benchmarks.drift_traffic import Traffic
from perennial.continual.drift import DriftMonitor, DriftSettings, ReferenceProfile, Window, compare
from perennial.continual.drift.dependence import Counting, CountingRule, bursts_of
from perennial.continual.drift.monitor import DriftSignal, MonitorState
from perennial.continual.drift.novelty import NoveltyState, with_novelty
from perennial.continual.drift.seasons import Phase, in_season

__all__ = ["KINDS", "dependent", "found", "long_run"]

_REFERENCE_ROWS, _WINDOW_ROWS = 600, 200
_CALLERS = 3_000
_DAY = 2_000  # requests a day of a quiet service
_BUSY_DAY = 200_000
_LATEST = 4_000  # requests after a change at which a stream is given up
_PERIODS_BACK = 4
_OF_ONE = 50_000  # requests of one champion
_STRIDE = 5  # so that a short run has kinds of all sorts

Places = NDArray[np.int64]
Draw = Callable[[Places, np.random.Generator], Places]  # rows for requests at these places in time


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stream:
    """Places of rows in what can be asked, who sent each, and when: `at` counts requests since the version began."""

    rows: Places
    callers: list[str | None]
    at: Places


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Pool:
    """All rows that a stream may hold: the clean ones by the class that they belong to, others in words or new."""

    rows: Window
    by_class: tuple[Places, ...]
    reworded: Places
    new: Places

    @classmethod
    def of(cls, traffic: Traffic) -> "_Pool":
        clean, reworded = len(traffic.clean), len(traffic.changed["paraphrase"])
        rows = joined(joined(traffic.clean, traffic.changed["paraphrase"]), traffic.new_intents)
        return cls(
            rows=replace(rows, shapes=rows.text_shapes),  # measured once, not for each window
            by_class=tuple(np.flatnonzero(traffic.truth == name) for name in np.unique(traffic.truth)),
            reworded=np.arange(clean, clean + reworded),
            new=np.arange(clean + reworded, clean + reworded + len(traffic.new_intents)),
        )

    def draw(self, weights: NDArray[np.float64], rng: np.random.Generator) -> Places:
        """One row for each row of the weights (requests, classes)."""
        cumulative = np.cumsum(weights, axis=1)
        chosen = (rng.random((len(weights), 1)) * cumulative[:, -1:] > cumulative).sum(axis=1)
        sizes = np.array([len(each) for each in self.by_class])
        starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
        picked: Places = np.concatenate(self.by_class)[
            starts[chosen] + (rng.random(len(chosen)) * sizes[chosen]).astype(np.int64)
        ]
        return picked


def _people(rows: int, rng: np.random.Generator) -> list[str | None]:
    """Callers, some of whom come often."""
    return [f"person {number}" for number in rng.zipf(1.3, rows) % _CALLERS + rng.integers(_CALLERS, size=rows)]


def _flat(pool: _Pool) -> Draw:
    return lambda at, rng: pool.draw(np.ones((len(at), len(pool.by_class))), rng)


def _turning(ratio: float, period: int, *, odd: float = 0.5) -> Callable[[_Pool], Draw]:
    """Half of the classes are `ratio` times as frequent in the later part `odd` of each period, the others before."""

    def make(pool: _Pool) -> Draw:
        half = np.arange(len(pool.by_class)) < len(pool.by_class) // 2

        def draw(at: Places, rng: np.random.Generator) -> Places:
            late = (at % period) >= period * (1.0 - odd)
            return pool.draw(np.where(late[:, None] == half[None, :], ratio, 1.0), rng)

        return draw

    return make


def _clocks_changed(ratio: float, period: int) -> Callable[[_Pool], Draw]:
    """A day cycle that comes an hour earlier from the night after its twelfth day on, as at the end of summer time."""

    def make(pool: _Pool) -> Draw:
        plain = _turning(ratio, period)(pool)
        return lambda at, rng: plain(np.where(at >= 12 * period, at + period // 24, at), rng)

    return make


def _reworded(share: float, period: int) -> Callable[[_Pool], Draw]:
    """In the later half of each period a share of the requests comes in other words: a season that is no mix."""

    def make(pool: _Pool) -> Draw:
        plain = _flat(pool)

        def draw(at: Places, rng: np.random.Generator) -> Places:
            other = ((at % period) >= period / 2) & (rng.random(len(at)) < share)
            return np.where(other, rng.choice(pool.reworded, len(at)), plain(at, rng))

        return draw

    return make


def _holiday(pool: _Pool) -> Draw:
    """One odd day in thirty: a tenth of the classes is asked for five times as often."""
    few = np.arange(len(pool.by_class)) < max(1, len(pool.by_class) // 10)

    def draw(at: Places, rng: np.random.Generator) -> Places:
        odd = (at // _DAY) % 30 == 20
        return pool.draw(np.where(odd[:, None] & few[None, :], 5.0, 1.0), rng)

    return draw


def _stream(draw: Draw, at: Places, rng: np.random.Generator) -> _Stream:
    return _Stream(rows=draw(at, rng), callers=_people(len(at), rng), at=at)


def _repeated(
    share: float, times: int, *, spread: int, draw_of: Callable[[_Pool], Draw] = _flat
) -> Callable[[_Pool, Places, np.random.Generator], _Stream]:
    """A share of the requests comes `times` times, the copies within `spread` requests of the first."""

    def make(pool: _Pool, at: Places, rng: np.random.Generator) -> _Stream:
        first = _stream(draw_of(pool), at[: int(len(at) / (1 + share * (times - 1)))], rng)
        copies = np.where(rng.random(len(first.rows)) < share, times, 1)
        source = np.repeat(np.arange(len(first.rows)), copies)
        later = np.concatenate([np.arange(count) for count in copies])
        order = np.argsort(source + np.where(later > 0, rng.random(len(source)) * spread, 0.0), kind="stable")
        source = source[order]
        return _Stream(
            rows=first.rows[source],
            callers=[first.callers[place] for place in source],
            at=np.maximum.accumulate(first.at[source]),
        )

    return make


def _loud(share: float) -> Callable[[_Pool, Places, np.random.Generator], _Stream]:
    """One caller, who asks about three things, sends a share of the requests in every fifth stretch of 600."""

    def make(pool: _Pool, at: Places, rng: np.random.Generator) -> _Stream:
        stream = _stream(_flat(pool), at, rng)
        own = np.concatenate(pool.by_class[:3])
        loud = ((at // 600) % 5 == 3) & (rng.random(len(at)) < share)
        places = np.where(loud, rng.choice(own, len(at)), stream.rows)
        callers = ["partner" if by else caller for by, caller in zip(loud, stream.callers, strict=True)]
        return _Stream(rows=places, callers=callers, at=at)

    return make


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kind:
    """How a stream is made, and what it turns with: how many requests a day has."""

    make: Callable[[_Pool, Places, np.random.Generator], _Stream]
    draw: Callable[[_Pool], Draw] = _flat
    day: int = _DAY
    sparse: bool = False  # the stretches around the turns of the second week are watched, not the days between

    def at(self, requests: int) -> Places:
        """When the requests come that are watched, the reference's first."""
        if not self.sparse:
            return np.arange(requests, dtype=np.int64)
        week, part = 7 * self.day, requests // 2
        turns = (week + 5 * self.day, 2 * week)
        parts = [np.arange(turn - part // 2, turn + part // 2) for turn in turns]
        return np.concatenate([np.arange(2 * _REFERENCE_ROWS), *parts])


def _cyclic(draw: Callable[[_Pool], Draw], *, day: int = _DAY) -> _Kind:
    return _Kind(make=lambda pool, at, rng: _stream(draw(pool), at, rng), draw=draw, day=day, sparse=day > _DAY)


_STREAMS: dict[str, _Kind] = {
    "independent": _cyclic(_flat),
    **{f"retries {share:.0%}": _Kind(make=_repeated(share, 5, spread=20)) for share in (0.05, 0.1, 0.3)},
    "five copies of everything": _Kind(make=_repeated(1.0, 5, spread=5)),
    **{f"one caller {share:.0%}": _Kind(make=_loud(share)) for share in (0.1, 0.2, 0.3)},
    **{f"day cycle {ratio}:1": _cyclic(_turning(ratio, _DAY)) for ratio in (2, 4)},
    "day cycle 4:1, retries 10%": _Kind(
        make=_repeated(0.1, 5, spread=20, draw_of=_turning(4, _DAY)), draw=_turning(4, _DAY)
    ),
    "other words at night, 30%": _cyclic(_reworded(0.3, _DAY)),
    **{
        f"week cycle x{ratio}, {day:,} a day": _cyclic(_turning(ratio, 7 * day, odd=2 / 7), day=day)
        for ratio in (1.5, 3)
        for day in (_DAY, _BUSY_DAY)
    },
    "holidays": _cyclic(_holiday),
    "day cycle 4:1, clocks changed": _cyclic(_clocks_changed(4, _DAY)),
}
KINDS = tuple(_STREAMS)


class _Watch:
    """One stream under the rule, as the watch of traffic does it; `seasons` are periods in requests."""

    def __init__(
        self,
        pool: _Pool,
        draw: Draw,
        settings: DriftSettings,
        rng: np.random.Generator,
        periods: dict[str, int],
        *,
        novelty: bool = True,
    ) -> None:
        self._pool, self._draw, self._settings, self._rng, self._periods = pool, draw, settings, rng, periods
        self._novelty = novelty
        self._monitor = DriftMonitor(settings=settings)
        self._clean_at: int | None = None
        self._like_reference = False
        self.alerts: list[int] = []
        self.mixes: list[int] = []
        self.seasons: list[str] = []
        self.windows = 0

    def follow(self, rows: Places, at: Places, callers: Sequence[str | None]) -> Iterator[tuple[int, DriftSignal]]:
        """Watch the rows that count; after each window, how many of them were seen and what it said."""
        first = self._cut(rows[:_REFERENCE_ROWS], callers[:_REFERENCE_ROWS])
        profile = ReferenceProfile.build(first, version=1, rng=self._rng)
        state: MonitorState = self._monitor.start(1, now_request=_REFERENCE_ROWS)
        novelty = NoveltyState.begun(profile, run_length=10.0 * self._settings.requests_per_false_retraining)
        self._clean_at = int(at[_REFERENCE_ROWS - 1])
        for end in range(_REFERENCE_ROWS + _WINDOW_ROWS, len(rows) + 1, _WINDOW_ROWS):
            part = slice(end - _WINDOW_ROWS, end)
            current = self._cut(rows[part], callers[part])
            comparison = compare(profile, current, self._settings, self._rng)
            phases = cache(partial(self._phases, int(at[part][0]), int(at[part][-1]) + 1))
            if comparison.drifted or comparison.mix_moved:
                comparison = in_season(comparison, profile, current, phases(), self._settings, self._rng)
            if novelty is not None and self._novelty:
                novelty, comparison = with_novelty(comparison, novelty, profile, current, phases, self._rng)
            if comparison.like_reference(self._settings):
                self._clean_at, self._like_reference = int(at[end - 1]), True
            state, signal = self._monitor.update(state, comparison, end)
            self.windows += 1
            if signal.alert:
                self.alerts.append(end)
            if signal.mix:
                self.mixes.append(end)
            self.seasons += [each.value for each in (comparison.season, comparison.mix_season) if each.value]
            yield end, signal

    def _cut(self, rows: Places, callers: Sequence[str | None]) -> Window:
        return replace(self._pool.rows.rows(rows), bursts=bursts_of(callers))

    def _phases(self, begin: int, end: int) -> dict[str, Phase]:
        phases = {}
        for name, period in self._periods.items():
            spans = [
                (begin - back * period, end - back * period)
                for back in range(1, _PERIODS_BACK + 1)
                if begin >= back * period and (not self._like_reference or end - back * period <= (self._clean_at or 0))
            ]
            places = [np.arange(*span) for span in spans]
            rows = self._rows(np.concatenate([np.zeros(0, dtype=np.int64), *places])) if begin >= period else None
            others = [period * part // 4 for part in (1, 2, 3)] if begin >= period else []
            phases[name] = Phase(
                rows=rows,
                between=tuple(self._rows(np.arange(begin - back, end - back)) for back in others),
                like_since=self._like_reference,
            )
        return phases

    def _rows(self, at: Places) -> Window:
        """What was asked then; a fresh draw of the same traffic stands for it."""
        return self._pool.rows.rows(self._draw(at, self._rng)[: 2 * _REFERENCE_ROWS])


def dependent(traffic: Traffic, requests: int, *, only: Sequence[str] = (), seed: int = 23) -> Iterator[dict[str, Any]]:
    """One row a stream: alerts, those after a week, and mixes told, with every request counted and by the rule.

    `only` names the kinds; none is all of them.
    """
    pool = _Pool.of(traffic)
    for number, (name, kind) in enumerate(_STREAMS.items()):
        if only and name not in only:
            continue
        rng = np.random.default_rng([seed, number])
        stream = kind.make(pool, kind.at(requests), rng)
        watched = _watched(pool, kind, stream, CountingRule(), DriftSettings())
        bare = _watched(
            pool,
            kind,
            stream,
            CountingRule(copies_within=0, caller_share=1.0),
            DriftSettings(mix_votes=True),
            seasons=False,
        )
        yield {
            "kind": name,
            "requests": len(stream.rows),
            "promised": max(1.0, len(stream.rows) / 50_000),
            "alerts": len(watched.alerts),
            "mixes_told": len(watched.mixes),
            "windows": watched.windows,
            "alerts_without": len(bare.alerts),
            "windows_without": bare.windows,
        }


def long_run(traffic: Traffic, requests: int, *, begin: int = 0) -> Iterator[dict[str, Any]]:
    """One row a champion: alerts in so many clean requests together, by all kinds of dependent traffic in turns.

    The first `begin` champions are passed over.
    """
    pool, kinds = _Pool.of(traffic), list(_STREAMS.items())
    for number in range(begin, max(1, round(requests / _OF_ONE))):
        name, kind = kinds[_STRIDE * number % len(kinds)]
        stream = kind.make(pool, kind.at(_OF_ONE), np.random.default_rng([37, number]))
        watched = _watched(pool, kind, stream, CountingRule(), DriftSettings())
        yield {
            "kind": name,
            "requests": len(stream.rows),
            "windows": watched.windows,
            "alerts": len(watched.alerts),
            "alerts_at": watched.alerts,
        }


def _watched(
    pool: _Pool,
    kind: _Kind,
    stream: _Stream,
    rule: CountingRule,
    settings: DriftSettings,
    *,
    seasons: bool = True,
) -> _Watch:
    """The stream watched to its end; the first rows that count are the reference."""
    texts, answers = pool.rows.texts[stream.rows], pool.rows.predictions[stream.rows]
    counts = Counting(rule).counted(stream.callers, texts.tolist(), answers.tolist())
    periods = {"a day": kind.day, "a week": 7 * kind.day} if seasons else {}
    watch = _Watch(pool, kind.draw(pool), settings, np.random.default_rng(29), periods, novelty=seasons)
    callers = [stream.callers[place] for place in np.flatnonzero(counts)]
    for _ in watch.follow(stream.rows[counts], stream.at[counts], callers):
        pass
    return watch


def _changed(pool: _Pool, draw: Draw, change: int, what: str) -> Draw:
    """The traffic with something new in it from a place on: new intents, or a tenth of the classes asked for x3."""
    few = np.concatenate(pool.by_class[: max(1, len(pool.by_class) // 10)])
    share, others = {
        "new intents 30%": (0.3, pool.new),
        "new intents 10%": (0.1, pool.new),
        "label shift x3 on a tenth": (1 / 6, few),  # a tenth of the traffic becomes 3 of 12 parts
    }[what]

    def draw_changed(at: Places, rng: np.random.Generator) -> Places:
        swapped = (at >= change) & (rng.random(len(at)) < share)
        return np.where(swapped, rng.choice(others, len(at)), draw(at, rng))

    return draw_changed


_CHANGES = {"new intents 30%": 600, "new intents 10%": 1_500, "label shift x3 on a tenth": _LATEST}
_UNDER: dict[str, tuple[Callable[[_Pool], Draw], int]] = {  # traffic, and requests until something changes
    "retries 10%": (_flat, 2_000),
    "retries 10%, day cycle 4:1 for three days": (_turning(4, _DAY), 3 * _DAY),
}


def found(traffic: Traffic, repeats: int) -> Iterator[dict[str, Any]]:
    """How many requests that count a real change takes until it is told, by retried requests and by day cycles."""
    pool = _Pool.of(traffic)
    for under, (make, change) in _UNDER.items():
        for what, within in _CHANGES.items():
            delays = [
                _delay(pool, make, change, what, np.random.default_rng([31, repeat])) for repeat in range(repeats)
            ]
            told = [delay for delay in delays if delay is not None]
            yield {
                "kind": what,
                "under": under,
                "repeats": repeats,
                "within": within,
                "found": len(told) / repeats,
                "found_within": sum(delay <= within for delay in told) / repeats,
                "requests_that_count_median": float(np.median(told)) if told else None,
            }


def _delay(pool: _Pool, make: Callable[[_Pool], Draw], change: int, what: str, rng: np.random.Generator) -> int | None:
    """Requests that count from the change to the word, None where it never came.

    A new mix of answers is told and is no alert, so that a label shift counts as found by that word too.
    """
    change += int(rng.integers(_WINDOW_ROWS))
    draw = _changed(pool, make(pool), change, what)
    at = np.arange(2 * (change + 2 * _LATEST))
    stream = _repeated(0.1, 5, spread=20, draw_of=lambda _: draw)(pool, at, rng)
    texts, answers = pool.rows.texts[stream.rows], pool.rows.predictions[stream.rows]
    counts = Counting(CountingRule()).counted(stream.callers, texts.tolist(), answers.tolist())
    rows, times = stream.rows[counts], stream.at[counts]
    begun = int(np.searchsorted(times, change))
    watch = _Watch(pool, draw, DriftSettings(), rng, {"a day": _DAY, "a week": 7 * _DAY})
    for end, signal in watch.follow(rows, times, [stream.callers[place] for place in np.flatnonzero(counts)]):
        if end > begun and (signal.alert or (signal.mix and what.startswith("label"))):
            return end - begun
        if end - begun > _LATEST:
            break
    return None
