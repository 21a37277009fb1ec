"""Distances between tokens as buckets: looked up in tables of whole numbers, not computed in each engine anew.

T5, MPNet and DeBERTa take the logarithm of a distance and cut its fraction off. At the edge of a bucket the last bit
of the logarithm decides, so every compiler and every precision would put some distances elsewhere.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

__all__ = ["tabulate_buckets"]

_T5, _MPNET, _DEBERTA = "_relative_position_bucket", "relative_position_bucket", "get_rel_pos"
_MPNET_REACH = 128  # its functions take no other


def tabulate_buckets(encoder: Any) -> None:
    """Put tables, made by the encoder's own functions, in the place of these functions."""
    for part in list(encoder.modules()):
        if hasattr(part, _T5) and getattr(part, "has_relative_attention_bias", False):
            reach = part.relative_attention_max_distance
            options = {
                "bidirectional": not part.is_decoder,
                "num_buckets": part.relative_attention_num_buckets,
                "max_distance": reach,
            }
            distances = _distances(reach)
            _put(part, _T5, _table(getattr(part, _T5)(distances, **options), reach))
        elif hasattr(part, _MPNET) and hasattr(part, "relative_attention_bias"):
            _put(part, _MPNET, _table(getattr(part, _MPNET)(_distances(_MPNET_REACH)), _MPNET_REACH))
        elif hasattr(part, _DEBERTA) and getattr(part, "position_buckets", -1) > 0:
            from transformers.models.deberta_v2.modeling_deberta_v2 import make_log_bucket_position

            reach = part.max_relative_positions
            buckets = make_log_bucket_position(_distances(reach), part.position_buckets, reach)
            _put(part, _DEBERTA, _between_all(_table(buckets, reach)))


def _distances(reach: int) -> "torch.Tensor":
    import torch

    return torch.arange(-reach, reach + 1)


def _table(buckets: "torch.Tensor", reach: int) -> Any:
    """A module that knows the bucket of each distance; those beyond `reach` have the last one's."""
    import torch

    class Buckets(torch.nn.Module):
        buckets: torch.Tensor

        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("buckets", buckets.to(torch.int64), persistent=False)

        def forward(self, distances: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
            return self.buckets[distances.clamp(-reach, reach) + reach]

    return Buckets()


def _between_all(table: Any) -> Any:
    """A module that gives the buckets between all tokens of a row, (1, tokens, tokens)."""
    import torch

    class Between(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = table

        def forward(self, hidden: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
            places = torch.arange(hidden.shape[-2], device=hidden.device)
            buckets: torch.Tensor = self.table(places[:, None] - places[None, :])
            return buckets.unsqueeze(0)

    return Between()


def _put(part: Any, method: str, table: Any) -> None:
    """Let `part` call the module instead of its method; as a submodule it moves to other devices with the rest."""
    part.add_module("bucket_table", table)
    part.__dict__[method] = table
