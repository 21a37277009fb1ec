"""An encoder cut to some of its layers, and each layer to the neurons that do most; written as an ordinary folder."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from perennial.continual.atomic_file import folder_written_whole
from perennial.continual.errors import ConfigurationError
from perennial.continual.learning.encoder_folder import copy_beside_weights
from perennial.continual.learning.encoder_model import load_encoder
from perennial.continual.learning.network import transformer_layers

__all__ = ["layers_kept", "shrink"]


def layers_kept(count: int, keep: int) -> list[int]:
    """Which layers stay of so many: spread evenly, the first and the last among them where there are two.

    >>> layers_kept(6, 3), layers_kept(12, 4), layers_kept(6, 1)
    ([0, 2, 5], [0, 3, 7, 11], [5])
    """
    if not 1 <= keep <= count:
        raise ConfigurationError(f"{keep} layers to keep of {count}; keep 1 to {count}")
    if keep == 1:
        return [count - 1]
    return [int(place) for place in np.floor(np.linspace(0, count - 1, keep) + 1e-9)]


def shrink(source: Path, out: Path, *, layers: int | None = None, width: int | None = None) -> None:
    """Write the encoder with so many layers, and so many inner neurons in each; None leaves what there is.

    The layers that stay are `layers_kept`; of the inner neurons of a layer those stay whose weights are largest.

    Raises:
        ConfigurationError: there are fewer, or the encoder's layers are of a kind that cannot be narrowed.
    """
    encoder = load_encoder(source)
    if layers is not None:
        _keep_layers(encoder, layers)
    if width is not None:
        _narrow(encoder, width)
    with folder_written_whole(out) as staging:
        encoder.save_pretrained(staging, safe_serialization=True)
        copy_beside_weights(source, staging)


def _keep_layers(encoder: Any, keep: int) -> None:
    import torch

    stack = transformer_layers(encoder)
    chosen = [stack[place] for place in layers_kept(len(stack), keep)]
    for part in encoder.modules():
        for name, child in part.named_children():
            if isinstance(child, torch.nn.ModuleList) and list(child) == list(stack):
                setattr(part, name, torch.nn.ModuleList(chosen))
    encoder.config.num_hidden_layers = keep


def _narrow(encoder: Any, width: int) -> None:
    import torch

    config = encoder.config
    if not 1 <= width <= getattr(config, "intermediate_size", 0):
        raise ConfigurationError(
            f"{width} inner neurons to keep of {getattr(config, 'intermediate_size', 'an unknown number')}"
        )
    with torch.no_grad():
        for layer in transformer_layers(encoder):
            inner, outer = _halves(layer, config.model_type)
            kept = torch.from_numpy(_strongest(inner.weight.numpy(), outer.weight.numpy(), width))
            for linear, weight, bias in (
                (inner, inner.weight[kept], inner.bias[kept]),
                (outer, outer.weight[:, kept], outer.bias),
            ):
                linear.weight = torch.nn.Parameter(weight.clone())
                linear.bias = torch.nn.Parameter(bias.clone())
                linear.out_features, linear.in_features = weight.shape
    config.intermediate_size = width


def _halves(layer: Any, kind: str) -> tuple[Any, Any]:
    """The two linear maps around a layer's inner neurons."""
    inner, outer = getattr(layer, "intermediate", None), getattr(layer, "output", None)
    if inner is None or outer is None or not hasattr(inner, "dense") or not hasattr(outer, "dense"):
        raise ConfigurationError(f"layers of {kind} are not built as BERT's are, so they cannot be narrowed")
    return inner.dense, outer.dense


def _strongest(inner: NDArray[np.float32], outer: NDArray[np.float32], width: int) -> NDArray[np.int64]:
    """The neurons whose incoming times outgoing weights are longest, in their order."""
    strength = np.linalg.norm(inner, axis=1) * np.linalg.norm(outer, axis=0)
    return np.sort(np.argsort(-strength, kind="stable")[:width]).astype(np.int64)
