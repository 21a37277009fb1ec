"""What a model's versions have told of a row so far, in one file, and the limit at which no more is told.

A row is told of when sums that it has changed, or gradients that it has changed, are given away with noise. Versions
that each add new rows to the one before tell of different rows: together they cost what one of them costs. A version
that is not made of the last one tells of rows a second time, and so does one that takes rows back or moves them.
"""

import fcntl
import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, Self

from perennial.continual.atomic_file import write_atomically
from perennial.continual.errors import ConfigurationError, DataError, Refused
from perennial.continual.privacy.noise import Privacy, epsilon_of

__all__ = ["Budget", "Cost", "Telling", "Terms", "alone"]

_PRIVATE = 0o600
_SLACK = 1e-6  # of a budget: a single version may spend it whole


class Telling(StrEnum):
    """What a version tells of."""

    ALL = "all rows"
    NEW = "new rows"  # beside those that the version before has told of
    CHANGED = "changed rows"  # some were taken back, or moved to another class


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What a training is told of privacy; see docs/privacy.md.

    >>> Terms(epsilon=8.0, delta=1e-5, limit=8.0, budget=Path("budget.json"), model="intent", version=1).by
    'sums'
    """

    epsilon: float  # of one telling of a row
    delta: float  # of one, and of all
    limit: float  # the epsilon of all versions together
    budget: Path  # where is kept what they have told
    model: str
    version: int
    by: str = "sums"  # or "gradients"

    def record(self) -> dict[str, Any]:
        """As a job's file holds it."""
        return {**asdict(self), "budget": str(self.budget.absolute())}

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> Self:
        """The terms that `record` gave.

        Raises:
            ConfigurationError: they are none.
        """
        try:
            terms = cls(**{**record, "budget": Path(record["budget"])})
        except (TypeError, KeyError) as error:
            raise ConfigurationError(f"the terms of privacy {dict(record)} are none ({error})") from error
        _ = terms.privacy  # refuses what is no promise
        return terms

    @property
    def privacy(self) -> Privacy:
        """Of one telling."""
        return Privacy(epsilon=self.epsilon, delta=self.delta)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What one version has told: `mu` is what a row changes over the noise's standard deviation."""

    version: int
    parent: int | None
    telling: Telling
    mu: float
    at: str


class Budget:
    """One model's, in a file; of two processes one waits for the other.

    Source: Dong, Roth and Su 2022, "Gaussian Differential Privacy", corollary 2, for what tells of the same rows; what
    tells of different rows costs as much as the dearest.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    @property
    def costs(self) -> tuple[Cost, ...]:
        """What versions have told so far, oldest first.

        Raises:
            DataError: the file is damaged.
        """
        try:
            read = json.loads(self._path.read_text(encoding="utf-8"))
            return tuple(Cost(**{**one, "telling": Telling(one["telling"])}) for one in read)
        except FileNotFoundError:
            return ()
        except (ValueError, TypeError, KeyError) as error:
            raise DataError(
                f"{self._path} is damaged ({error}), and no more tells what versions have told; restore its backup"
            ) from error

    def spend(self, terms: Terms, telling: Telling, *, parent: int | None, forced: bool = False) -> float:
        """Note what a version is about to tell, and return the epsilon of all versions together at its delta.

        A version that is made again, because its training was killed, takes the place of what was noted of it: nothing
        of the first try was given away.

        Args:
            terms: of the version.
            telling: of which rows.
            parent: the version that it is made of; None where it begins anew.
            forced: an erasure is never refused, and may spend more than there is.

        Raises:
            Refused: all versions together would tell more than the limit allows.
            DataError: what was spent cannot be read.
        """
        with alone(self._path.with_suffix(".lock")):
            before = [cost for cost in self.costs if cost.version != terms.version]
            own = Cost(
                version=terms.version,
                parent=parent,
                telling=telling,
                mu=1.0 / terms.privacy.multiplier,
                at=datetime.now(UTC).isoformat(timespec="seconds"),
            )
            epsilon = spent_by([*before, own], terms.delta)
            if not forced and epsilon > terms.limit * (1.0 + _SLACK):
                raise Refused(
                    f"version {terms.version} of {terms.model} would tell of {telling.value} with epsilon "
                    f"{terms.epsilon:g}, so that all versions together have told {epsilon:.3g} at delta "
                    f"{terms.delta:g}; the budget is {terms.limit:g}, of which {len(before)} versions have spent "
                    f"{spent_by(before, terms.delta):.3g}: raise [models.{terms.model}.privacy] epsilon, or set a "
                    "smaller version_epsilon"
                )
            record = json.dumps([asdict(cost) for cost in (*before, own)], indent=1)
            write_atomically(self._path, record, mode=_PRIVATE)
            return epsilon


def spent_by(costs: list[Cost], delta: float) -> float:
    """The epsilon at this delta of all that versions have told, of the row that was told of most.

    >>> cost = {"mu": 1.0 / Privacy(epsilon=2.0, delta=1e-5).multiplier, "at": ""}
    >>> first = Cost(version=1, parent=None, telling=Telling.ALL, **cost)
    >>> more = Cost(version=2, parent=1, telling=Telling.NEW, **cost)
    >>> round(spent_by([first, more], 1e-5), 6), round(spent_by([first, first], 1e-5), 2)
    (2.0, 2.95)
    """
    squares, dearest, last = 0.0, 0.0, None
    for cost in costs:
        if cost.telling is Telling.NEW and cost.parent == last and cost.parent is not None:
            squares += max(0.0, cost.mu**2 - dearest)  # of rows that none since the last break has told of
            dearest = max(dearest, cost.mu**2)
        else:  # the rows that it tells of may have been told of; taken back, they may come again before the next break
            squares += cost.mu**2 * (2.0 if cost.telling is Telling.CHANGED else 1.0)
            dearest = cost.mu**2
        last = cost.version
    return epsilon_of(math.sqrt(squares), delta)


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Nobody else is in a block on this path meanwhile, in this process or another."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
