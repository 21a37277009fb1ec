"""A window beside the same hours of the days or weeks before: what comes and goes with them is no drift."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from enum import StrEnum
from types import MappingProxyType

import numpy as np

from perennial.continual.drift.compare import (
    DriftComparison,
    Season,
    adjusted_of,
    compare,
    measure_all,
    same_mix,
    signals_of,
)
from perennial.continual.drift.reference import ReferenceProfile
from perennial.continual.drift.settings import DriftSettings, Signal
from perennial.continual.drift.statistics import chi_square
from perennial.continual.drift.window import Window

__all__ = ["PERIODS", "Phase", "Seasons", "in_season", "mixes_alike"]

PERIODS: Mapping[str, timedelta] = MappingProxyType({"a day": timedelta(days=1), "a week": timedelta(days=7)})
"""What traffic turns with, and how long one turn takes."""

_LEVEL = 0.05
_PERMUTATIONS = 199


class Seasons(StrEnum):
    """Which periods a window is compared over.

    With a declared period, a window whose phase was not seen once casts no vote. Found ones are looked for: until a
    day or a week was seen, a difference is drift.

    >>> Seasons.WEEK.periods, Seasons.NONE.periods
    (('a day', 'a week'), ())
    """

    FOUND = "found"
    DAY = "day"
    WEEK = "week"
    NONE = "none"

    @property
    def periods(self) -> tuple[str, ...]:
        """The periods whose phases are looked at, the longest last."""
        if self is Seasons.NONE:
            return ()
        return ("a day",) if self is Seasons.DAY else tuple(PERIODS)

    @property
    def declared(self) -> bool:
        """Whether somebody said that traffic turns with the longest of the periods."""
        return self in {Seasons.DAY, Seasons.WEEK}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Phase:
    """The same hours of earlier days or weeks: their rows, None where no period was seen once.

    `between` are rows of other times since: only what differs from some of them came and went. A window that is like
    the reference by chance does not show that; `like_since` says that there was one, for where those times had no rows.
    """

    rows: Window | None
    between: tuple[Window, ...] = ()
    like_since: bool = False

    def came_and_went(self, unlike: Callable[[Window], bool], least: int) -> bool:
        """Whether traffic was other meanwhile, by what tells rows from the window's; fewer than `least` tell nothing.

        >>> Phase(rows=None).came_and_went(lambda rows: True, 50)
        False
        """
        telling = [rows for rows in self.between if len(rows) >= least]
        return any(map(unlike, telling)) if telling else self.like_since


def in_season(
    comparison: DriftComparison,
    reference: ReferenceProfile,
    current: Window,
    phases: Mapping[str, Phase],
    settings: DriftSettings,
    rng: np.random.Generator,
    *,
    declared: bool = False,
) -> DriftComparison:
    """The comparison of a window that is unlike the reference, with what its phase in each period before says of it.

    Where such a phase was unlike the reference too, and the window is like it, and unlike other times since in what it
    drifted in, the window returns and is no drift. A phase like the reference is no season: a weak change that is hard
    to see beside it excuses nothing. The same is told of the mix of answers alone.
    `declared`: somebody said that traffic turns with the longest of the periods; a window of a phase not seen once is
    no drift then. With `settings.new_mix_votes` a mix that was in none of them is drift.
    """
    if not phases:
        return comparison
    asked = comparison
    if comparison.drifted:
        season, period = _season(comparison, reference, current, phases, settings, rng)
        untold = season is Season.UNTOLD and declared and phases[list(phases)[-1]].rows is None
        asked = replace(comparison, season=season, period=period, excused=untold or season is Season.RETURNING)
    if comparison.matched and comparison.mix_moved:
        mix = _mix_season(current, phases, settings.min_rows, seed=comparison.seed)
        asked = replace(asked, mix_season=mix, mix_new=settings.new_mix_votes and mix is Season.NEW)
    return asked


def _season(
    comparison: DriftComparison,
    reference: ReferenceProfile,
    current: Window,
    phases: Mapping[str, Phase],
    settings: DriftSettings,
    rng: np.random.Generator,
) -> tuple[Season, str]:
    for period, phase in phases.items():
        if _returns(comparison, reference, current, phase, settings, rng):
            return Season.RETURNING, period
    unseen = _unseen(phases)
    return (Season.UNTOLD, unseen[0]) if unseen else (Season.NEW, "")


def _returns(
    comparison: DriftComparison,
    reference: ReferenceProfile,
    current: Window,
    phase: Phase,
    settings: DriftSettings,
    rng: np.random.Generator,
) -> bool:
    rows = phase.rows
    if rows is None or len(rows) < max(settings.min_rows, len(current)):
        return False
    like_reference = compare(reference, rows, settings, rng).released(settings)
    if like_reference or _unlike(comparison, current, rows, settings, rng):
        return False
    return phase.came_and_went(lambda other: _apart(comparison, current, other, settings, rng), settings.min_rows)


def _unlike(
    comparison: DriftComparison, current: Window, rows: Window, settings: DriftSettings, rng: np.random.Generator
) -> bool:
    """Whether the window drifted from these rows too, or in something that cannot be compared with them."""
    before = ReferenceProfile.build(rows, version=comparison.version, rng=rng)
    if not set(comparison.drifted_signals) <= set(signals_of(before, current)):
        return True
    return compare(before, current, settings, rng).drifted


def _apart(
    comparison: DriftComparison, current: Window, rows: Window, settings: DriftSettings, rng: np.random.Generator
) -> bool:
    """Whether rows differ from the window's, by as much as matters, in what that drifted in.

    Nothing else is asked, so that few rows tell.
    """
    before = ReferenceProfile.build(rows, version=comparison.version, rng=rng)
    drifted = {each.signal for each in comparison.telling if each.drifted}
    asked = {signal: settings.floors[signal] for signal in signals_of(before, current) if signal in drifted}
    seed = int(rng.integers(2**31))
    alike = same_mix(before, current, seed) if comparison.matched else None
    results = measure_all(asked, before, current, seed=seed, permutations=_PERMUTATIONS, alike=alike)
    adjusted = adjusted_of(results, matched=alike is not None)
    return any(
        adjusted[signal] < _LEVEL and result.reaches(settings.release_floor) for signal, result in results.items()
    )


def _mix_season(current: Window, phases: Mapping[str, Phase], least: int, *, seed: int) -> Season:
    """Whether answers that are mixed unlike the reference's were so in the same phase before."""

    def unlike(other: Window) -> bool:
        return not _mixed_alike(current, other, seed)

    for phase in phases.values():
        rows = phase.rows
        if rows is not None and len(rows) and not unlike(rows) and phase.came_and_went(unlike, least):
            return Season.RETURNING
    return Season.UNTOLD if _unseen(phases) else Season.NEW


def _unseen(phases: Mapping[str, Phase]) -> list[str]:
    return [period for period, phase in phases.items() if phase.rows is None]


def _mixed_alike(here: Window, there: Window, seed: int) -> bool:
    return mixes_alike(here.predictions.tolist(), there.predictions.tolist(), seed=seed)


def mixes_alike(here: Sequence[str], there: Sequence[str], *, seed: int) -> bool:
    """Whether two lists of answers may be of one mix: no test tells them apart, or by less than matters."""
    result = chi_square(
        here,
        there,
        rng=np.random.default_rng(seed),
        permutations=_PERMUTATIONS,
        floor=DriftSettings().floors[Signal.PREDICTION],
    )
    return result.p_value >= _LEVEL or not result.relevant
