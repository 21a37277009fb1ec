"""An encoder cut to some of its layers, and each layer to the neurons that do most; written as an ordinary folder."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from perennial.continual.atomic_file import folder_written_whole
from perennial.continual.errors import ConfigurationError
from perennial.continual.learning.encoder import Encoder
from perennial.continual.learning.encoder_folder import copy_beside_weights
from perennial.continual.learning.network import transformer_layers

__all__ = ["layers_and_width", "layers_kept", "shrink"]

_ASKED = 512  # texts by which neurons are judged
_RIDGE = 1e-3  # of the mean variance of a neuron
_LAYERS = ("num_hidden_layers", "n_layers", "num_layers", "n_layer")  # as configurations call their number
_WIDTH = ("intermediate_size", "hidden_dim")  # likewise the inner neurons of one
_HALVES = (("intermediate.dense", "output.dense"), ("ffn.lin1", "ffn.lin2"))  # of BERT and its kin, of DistilBERT


def layers_and_width(folder: Path) -> tuple[int, int]:
    """How many layers the encoder in a folder has, and how many inner neurons each; 0 where it does not tell."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    layers, width = (next((config[name] for name in names if config.get(name)), 0) for names in (_LAYERS, _WIDTH))
    return int(layers), int(width)


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


def shrink(
    source: Path,
    out: Path,
    texts: Sequence[str],
    *,
    max_length: int,
    layers: int | None = None,
    width: int | None = None,
) -> None:
    """Write the encoder with so many layers, and so many inner neurons in each; None leaves what there is.

    The layers that stay are `layers_kept`. Of the inner neurons of a layer those stay from which, on the texts, the
    others follow best. What leads out of them is solved anew, so that it gives nearly what all of them gave.

    Raises:
        ConfigurationError: there are fewer, or the encoder's layers are of a kind that cannot be narrowed.
    """
    encoder = Encoder.load(str(source), max_length=max_length)
    if layers is not None:
        _keep_layers(encoder.model, layers)
    if width is not None:
        _narrow(encoder, texts[:: max(1, len(texts) // _ASKED)][:_ASKED], width)
    with folder_written_whole(out) as staging:
        encoder.model.save_pretrained(staging, safe_serialization=True)
        copy_beside_weights(source, staging)


def _keep_layers(encoder: Any, keep: int) -> None:
    import torch

    stack = transformer_layers(encoder)
    places = layers_kept(len(stack), keep)
    chosen = [stack[place] for place in places]
    for part in encoder.modules():
        for name, child in part.named_children():
            if isinstance(child, torch.nn.ModuleList) and list(child) == list(stack):
                setattr(part, name, torch.nn.ModuleList(chosen))
    for name, told in vars(encoder.config).items():  # of each layer, as ModernBERT's kinds of attention
        if isinstance(told, list) and len(told) == len(stack):
            setattr(encoder.config, name, [told[place] for place in places])
    encoder.config.num_hidden_layers = keep


def _narrow(encoder: Encoder, texts: Sequence[str], width: int) -> None:
    import torch

    config = encoder.model.config
    name = next((each for each in _WIDTH if getattr(config, each, None)), "")
    if not 1 <= width <= getattr(config, name, 0):
        raise ConfigurationError(f"{width} inner neurons to keep of {getattr(config, name, 'an unknown number')}")
    halves = [_halves(layer, config.model_type) for layer in transformer_layers(encoder.model)]
    with _watched([outer for _, outer in halves]) as seen:
        encoder.embed(texts)
    with torch.no_grad():
        for (inner, outer), found in zip(halves, seen, strict=True):
            kept, weight, bias = found.narrowed(outer.weight.double(), outer.bias.double(), width)
            for linear, new, offset in (
                (inner, inner.weight[kept], inner.bias[kept]),
                (outer, weight.float(), bias.float()),
            ):
                linear.weight = torch.nn.Parameter(new.clone())
                linear.bias = torch.nn.Parameter(offset.clone())
                linear.out_features, linear.in_features = new.shape
    setattr(config, name, width)


def _halves(layer: Any, kind: str) -> tuple[Any, Any]:
    """The two linear maps around a layer's inner neurons."""
    parts = dict(layer.named_modules())
    for inner, outer in _HALVES:
        if inner in parts and outer in parts:
            return parts[inner], parts[outer]
    raise ConfigurationError(f"layers of {kind} are not built as BERT's are, so they cannot be narrowed")


@contextmanager
def _watched(maps: Sequence[Any]) -> Iterator[list["_Neurons"]]:
    """What goes into each linear map while the encoder runs; padding is among it, as it is in every batch."""
    found = [_Neurons() for _ in maps]
    hooks = [each.register_forward_pre_hook(one.see) for each, one in zip(maps, found, strict=True)]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


@dataclass(slots=True)
class _Neurons:
    """Sums over tokens of a layer's inner neurons."""

    count: int = 0
    total: Any = 0.0  # (neurons,)
    products: Any = 0.0  # (neurons, neurons)

    def see(self, _: Any, inputs: tuple[Any, ...]) -> None:
        """Add what a map is given: (texts, tokens, neurons)."""
        values = inputs[0].reshape(-1, inputs[0].shape[-1]).double()
        self.count += values.shape[0]
        self.total = self.total + values.sum(dim=0)
        self.products = self.products + values.T @ values

    def narrowed(self, weight: Any, bias: Any, width: int) -> tuple[Any, Any, Any]:
        """The neurons that stay, in their order, and what leads out of them: (width,), (d, width) and (d,).

        Of `weight` (d, neurons) and `bias` (d,), by least squares over the tokens seen.
        """
        import torch

        mean = self.total / self.count
        spread = self.products / self.count - torch.outer(mean, mean)
        length = weight.norm(dim=0)
        kept = _pivots(spread * torch.outer(length, length), width)
        within = spread[kept][:, kept]
        within = within + _RIDGE * within.diagonal().mean().clamp(min=1e-12) * torch.eye(width, dtype=within.dtype)
        solved = torch.linalg.solve(within, spread[kept] @ weight.T).T
        return kept, solved, bias + weight @ mean - solved @ mean[kept]


def _pivots(spread: Any, count: int) -> Any:
    """The places, in order, whose columns explain most of a covariance: those of its pivoted Cholesky factor."""
    import torch

    left, factor, kept = spread.diagonal().clone(), torch.zeros(len(spread), count, dtype=spread.dtype), list[int]()
    for place in range(count):
        left[kept] = -torch.inf
        pivot = int(left.argmax())
        column = spread[:, pivot] - factor[:, :place] @ factor[pivot, :place]
        factor[:, place] = column / left[pivot].clamp(min=1e-12).sqrt()
        left = left - factor[:, place] ** 2
        kept.append(pivot)
    return torch.tensor(sorted(kept))
