"""A module's weights as a package knows them: by name, type and shape."""

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

__all__ = ["describe", "digest_values", "named_weights"]


def named_weights(module: "torch.nn.Module") -> dict[str, Any]:
    """Parameters and buffers by name, those that no checkpoint keeps included: a package holds them all."""
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


def digest_values(value: "torch.Tensor") -> str:
    import torch

    return hashlib.sha256(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes()).hexdigest()


def describe(weights: Mapping[str, Any]) -> dict[str, str]:
    return {name: f"{value.dtype} {tuple(value.shape)}" for name, value in sorted(weights.items())}
