"""What a threshold of each group's own would give: how equal a rate becomes, and how many answers get wrong by it.

Nothing is served by it: see docs/fairness.md. It is what fairlearn's `ThresholdOptimizer` does, without its draws by
chance between two thresholds, so that equal texts of one group get equal answers.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from perennial.continual.errors import ConfigurationError, DataError
from perennial.continual.fairness.slices import FIGURES, LEAST_ROWS, Counted
from perennial.continual.intervals import Interval, bonett_price

__all__ = ["EQUALISED", "EqualThresholds", "GroupThreshold", "equal_thresholds", "fit_thresholds"]

EQUALISED = FIGURES[1:]  # rates that thresholds can make equal
_SHARES = np.linspace(0.0, 1.0, 501)  # of rows that get the class, among which the best is chosen

Numbers = NDArray[np.float64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupThreshold:
    """From which score on people of a group would get the class, and their rate as answered now and by thresholds."""

    group: str
    rows: int
    threshold: float
    now: float
    then: float


@dataclass(frozen=True, slots=True, kw_only=True)
class EqualThresholds:
    """One rate of one class made equal. `right` is the share of rows that rightly got the class, or did not.

    The figures of `then` are of rows that the thresholds were not chosen by: each half's are chosen by the other. The
    thresholds that are shown are those of all rows.
    """

    attribute: str
    label: str
    figure: str
    rows: int
    groups: tuple[GroupThreshold, ...]
    gap_now: Interval
    gap_then: Interval
    right_now: float
    right_then: float
    lost: Interval  # of right, with a paired interval


def equal_thresholds(
    attribute: str,
    groups: Sequence[str | None],
    labels: Sequence[str],
    given: Sequence[str],
    scores: Sequence[float],
    *,
    label: str,
    figure: str,
    least_rows: int = LEAST_ROWS,
    seed: int = 0,
) -> EqualThresholds | None:
    """What thresholds would give on these rows; None where no two groups have rows enough that the rate is of.

    Entry i of each list is one row: its group, its label, the answer, and the probability of `label`, in [0, 1].

    Raises:
        ConfigurationError: `figure` is none of `EQUALISED`.
        DataError: the lists differ in length.

    >>> scores = [0.2, 0.6, 0.7, 0.9] * 20 + [0.1, 0.3, 0.4, 0.6] * 20
    >>> labels = (["no", "no", "yes", "yes"] * 20) * 2
    >>> given = ["yes" if score > 0.5 else "no" for score in scores]
    >>> found = equal_thresholds("region", ["n"] * 80 + ["s"] * 80, labels, given, scores, label="yes",
    ...                          figure="false_negative_rate")
    >>> round(found.gap_now.mean, 2), round(found.gap_then.mean, 2), found.right_now, found.right_then
    (0.5, 0.0, 0.75, 1.0)
    """
    if figure not in EQUALISED:
        raise ConfigurationError(f"{figure!r} cannot be made equal by thresholds; use one of {', '.join(EQUALISED)}")
    if not len(groups) == len(labels) == len(given) == len(scores):
        raise DataError(
            f"thresholds got {len(groups)} groups, {len(labels)} labels, {len(given)} answers and {len(scores)} "
            "scores; give a row all four"
        )
    whose = np.array(["" if group is None else group for group in groups])
    truth = np.array([each == label for each in labels], dtype=bool)
    now = np.array([each == label for each in given], dtype=bool)
    values, of = np.asarray(scores, dtype=np.float64), _counts(truth, figure)
    known = np.array([group is not None for group in groups], dtype=bool)
    names = [name for name in sorted({*whose[known].tolist()}) if (known & (whose == name) & of).sum() >= least_rows]
    kept = known & np.isin(whose, names)
    half = np.random.default_rng(seed).permutation(len(values)) % 2 == 0
    parts = [kept & half, kept & ~half]
    if len(names) < 2 or not all((part & of & (whose == name)).any() for part in parts for name in names):
        return None
    then = np.zeros(len(values), dtype=bool)
    for part, other in (parts, parts[::-1]):
        chosen = fit_thresholds(whose[part], truth[part], values[part], figure)
        then[other] = _decided(chosen, whose[other], values[other])
    counted = [_told(whose[kept], truth[kept], decided[kept]) for decided in (now, then)]
    gaps = [each.widest(figure, label=_YES, least_rows=1) for each in counted]
    if gaps[0] is None or gaps[1] is None:
        return None
    fitted = fit_thresholds(whose[kept], truth[kept], values[kept], figure)
    rates = [_rates(each, figure) for each in counted]
    right = [(decided == truth)[kept] for decided in (now, then)]
    lost, won = int((right[0] & ~right[1]).sum()), int((~right[0] & right[1]).sum())
    return EqualThresholds(
        attribute=attribute,
        label=label,
        figure=figure,
        rows=int(kept.sum()),
        groups=tuple(
            GroupThreshold(
                group=name,
                rows=int((kept & (whose == name)).sum()),
                threshold=fitted[name],
                now=rates[0][name],
                then=rates[1][name],
            )
            for name in names
        ),
        gap_now=gaps[0].difference,
        gap_then=gaps[1].difference,
        right_now=float(right[0].mean()),
        right_then=float(right[1].mean()),
        lost=bonett_price(lost, won, int(kept.sum())),
    )


def fit_thresholds(groups: NDArray[np.str_], truth: Flags, scores: Numbers, figure: str) -> dict[str, float]:
    """For each group the score from which on it gets the class, so that the rate is equal and most rows are right.

    Each group must have rows that the rate is of.
    """
    by_share: dict[str, Numbers] = {}
    right = np.zeros(len(_SHARES))
    for name in sorted({*groups.tolist()}):
        own = groups == name
        cuts = np.quantile(scores[own & _counts(truth, figure)], 1.0 - _SHARES)
        cuts[0] = np.nextafter(cuts[0], np.inf)  # above all of them
        yes, no = np.sort(scores[own & truth]), np.sort(scores[own & ~truth])
        right += len(yes) - np.searchsorted(yes, cuts) + np.searchsorted(no, cuts)
        by_share[name] = cuts
    best = int(right.argmax())
    return {name: float(cuts[best]) for name, cuts in by_share.items()}


_YES, _NO = "yes", "no"


def _counts(truth: Flags, figure: str) -> Flags:
    """The rows that a rate is a share of."""
    if figure == "selection_rate":
        return np.ones(len(truth), dtype=bool)
    return ~truth if figure == "false_positive_rate" else truth


def _decided(thresholds: dict[str, float], groups: NDArray[np.str_], scores: Numbers) -> Flags:
    return np.asarray(scores >= np.array([thresholds[name] for name in groups.tolist()]), dtype=bool)


def _told(groups: NDArray[np.str_], truth: Flags, decided: Flags) -> Counted:
    words = [np.where(flags, _YES, _NO).tolist() for flags in (truth, decided)]
    return Counted.of(groups.tolist(), words[0], words[1])


def _rates(counted: Counted, figure: str) -> dict[str, float]:
    hits, rows = counted.hits(figure)
    column = counted.classes.index(_YES)
    shares = hits[:, column] / np.maximum(rows[:, column], 1)
    return dict(zip(counted.groups, shares.tolist(), strict=True))
