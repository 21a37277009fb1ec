"""What an encoder is called with, so that its exported graph holds as little of masks and positions as it allows."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

__all__ = ["encoder_inputs"]

_MASKED_SCORE = -1e4  # exact in FP16 and BF16, and exp(-1e4) is 0 in each, so padding never reaches an answer
_OWN_MASK = frozenset(
    {"bert", "roberta", "xlm-roberta", "electra", "camembert", "mpnet", "distilbert", "albert", "nomic_bert", "t5"}
)
_CAUSAL_MASK = frozenset({"gpt2", "qwen2"})
_TYPED = frozenset({"bert", "electra"})


def encoder_inputs(kind: str, input_ids: "torch.Tensor", attention_mask: "torch.Tensor") -> dict[str, "torch.Tensor"]:
    """Keyword inputs that keep mask building and position look-ups out of the graph, where the encoder allows."""
    import torch

    if kind not in _OWN_MASK | _CAUSAL_MASK:
        return {"input_ids": input_ids, "attention_mask": attention_mask}
    keep = attention_mask[:, None, None, :] > 0  # (batch, 1, 1, sequence)
    if kind in _CAUSAL_MASK:  # (batch, 1, sequence, sequence): no token sees those behind it
        place = torch.arange(input_ids.shape[1], device=input_ids.device)
        keep = keep & (place[:, None] >= place[None, :])
    zero = torch.zeros((), dtype=torch.float32, device=input_ids.device)
    masked = torch.full((), _MASKED_SCORE, device=input_ids.device)
    inputs = {"input_ids": input_ids, "attention_mask": torch.where(keep, zero, masked)}
    if kind in _TYPED:
        inputs["token_type_ids"] = torch.zeros_like(input_ids)
        inputs["position_ids"] = torch.arange(input_ids.shape[1], device=input_ids.device).unsqueeze(0)
    return inputs
