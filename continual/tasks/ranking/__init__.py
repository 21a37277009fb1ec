"""Items in an order for one user at one time."""

from perennial.continual.tasks.ranking.rows import Impression, Query
from perennial.continual.tasks.ranking.task import Ranking

__all__ = ["Impression", "Query", "Ranking"]
