"""The list of best items in torch: what every engine of it must answer like."""

import numpy as np
import torch
from numpy.typing import NDArray

from perennial.exporters.ranking.graph import HIDDEN_SCORE
from perennial.exporters.ranking.ties import ItemTies

__all__ = ["ItemModule"]


class ItemModule(torch.nn.Module):
    """See `perennial.exporters.ranking.graph.write_item_graph`; of equal scores the item that stands first wins."""

    def __init__(self, ties: ItemTies, *, known_from: float, lengths: tuple[int, int]) -> None:
        super().__init__()
        table = ties.neighbours
        self.places = torch.from_numpy(table.places.astype(np.int64) + 1)
        self.values = torch.from_numpy(table.values.astype(np.float32))
        self.popularity = torch.from_numpy(_after_nothing(table.popular))
        self.known = torch.from_numpy(~ties.unknown(known_from))
        self.lengths = lengths

    def forward(
        self,
        liked: torch.Tensor,
        weights: torch.Tensor,
        hidden: torch.Tensor,
        boosted: torch.Tensor,
        boosts: torch.Tensor,
        popular: torch.Tensor,
    ) -> tuple[torch.Tensor, ...]:
        """Best items and their scores, and those of the items that are not known (B, k)."""
        rows = len(liked)
        scores = popular * self.popularity  # (B, 1 + items)
        moved = self.values[liked] * weights[:, :, None]  # (B, H, ties)
        scores = scores.scatter_add(1, self.places[liked].reshape(rows, -1), moved.reshape(rows, -1))
        scores = scores.scatter_add(1, boosted, boosts)
        scores = scores.scatter(1, hidden, HIDDEN_SCORE)[:, 1:]
        best = _best(scores, self.lengths[0])
        return (*best, *_best(scores.masked_fill(self.known, HIDDEN_SCORE), self.lengths[1]))


def _best(scores: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    values, items = scores.sort(dim=1, descending=True, stable=True)
    values, items = values[:, :count], items[:, :count]
    shown = values > HIDDEN_SCORE / 2
    return items.where(shown, torch.tensor(-1)), values.where(shown, torch.tensor(0.0))


def _after_nothing(popular: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.concatenate([np.zeros(1), popular]).astype(np.float32)
