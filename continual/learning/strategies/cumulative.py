"""Training on everything seen so far: the upper bound, when all old rows are passed as replay rows."""

from typing import ClassVar

from perennial.continual.learning.strategies.naive import Naive

__all__ = ["Cumulative"]


class Cumulative(Naive):
    """Cross-entropy on fresh and replay rows shuffled together, each row once an epoch.

    >>> Cumulative().mixes
    True
    """

    name: ClassVar[str] = "cumulative"
    mixes: ClassVar[bool] = True
