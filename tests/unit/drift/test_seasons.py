"""A weak season is told from a weak change that lasts, by what the window drifted in."""

import numpy as np
import pytest

from perennial.continual.drift import DriftSettings, ReferenceProfile, Window, compare
from perennial.continual.drift.seasons import Phase, in_season

_DRAWS = 24
_WEAK = 0.4  # standard deviations


def answered(rng: np.random.Generator, rows: int, *, less: float = 0.0, mix: float = 0.5) -> Window:
    """Rows of two answers whose confidence is lower by so many standard deviations."""
    return Window.from_columns(
        {
            "text": ["a b c"] * rows,
            "prediction": np.where(rng.random(rows) < mix, "x", "y"),
            "version": [1] * rows,
            "confidence": rng.normal(0.7 - 0.1 * less, 0.1, rows),
            "entropy": rng.normal(size=rows),
        }
    )


@pytest.mark.parametrize("mix", [0.5, 0.8])  # of the night's answers: one may turn with it
@pytest.mark.parametrize("lasts", [False, True])
def test_a_weak_season_excuses_most_of_its_windows_and_a_weak_change_that_lasts_few(mix: float, lasts: bool) -> None:
    rng = np.random.default_rng(5)
    settings = DriftSettings()
    reference = ReferenceProfile.build(answered(rng, 600), version=1, rng=rng)
    drifted = excused = 0
    for _ in range(_DRAWS):
        window = answered(rng, 200, less=_WEAK, mix=mix)
        comparison = compare(reference, window, settings, rng)
        if not comparison.drifted:
            continue
        between = [answered(rng, 200, less=_WEAK if lasts else 0.0, mix=mix if lasts else 0.5) for _ in range(3)]
        phase = Phase(rows=answered(rng, 600, less=_WEAK, mix=mix), between=tuple(between), like_since=True)
        asked = in_season(comparison, reference, window, {"a day": phase}, settings, rng)
        drifted, excused = drifted + 1, excused + asked.excused
    assert drifted >= 12
    assert excused <= 0.3 * drifted if lasts else excused >= 0.8 * drifted, f"{excused} of {drifted} were excused"
