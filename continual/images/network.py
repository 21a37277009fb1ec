"""An image encoder as one torch module: bytes of colour in, unit vectors out, prepared as its folder says."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perennial.continual.errors import ConfigurationError
from perennial.continual.images.preprocessing import Preprocessing

if TYPE_CHECKING:
    import torch

__all__ = ["build_encoder", "image_dimension"]

_POOLED = frozenset({"convnext", "convnextv2"})  # they normalise what they have pooled, and give that beside it
_WIDTHS = ("hidden_size", "hidden_dim", "embed_dim")
_OPEN = 17.0  # from here on a sigmoid is 1 in FP32


def image_dimension(folder: Path) -> int:
    """The length of the embeddings of the image encoder in `folder`, by its configuration.

    Raises:
        ConfigurationError: it does not say.
    """
    path = folder / "config.json"
    try:
        told = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{path} is not JSON ({error}); save the encoder with save_pretrained") from error
    stages = told.get("hidden_sizes")
    width = stages[-1] if isinstance(stages, list) and stages else next((told[n] for n in _WIDTHS if n in told), None)
    if not isinstance(width, int):
        raise ConfigurationError(
            f"{path} has none of hidden_sizes, {', '.join(_WIDTHS)}; give an image encoder such as ViT, ResNet or "
            "ConvNext"
        )
    return width


def build_encoder(folder: Path) -> "torch.nn.Module":
    """The module `pixels` (batch, height, width, 3) of whole numbers in [0, 255] -> embeddings (batch, d) of length 1.

    Networks of tokens give their first one, convolutions the mean over all places.

    Raises:
        ConfigurationError: the folder holds no image encoder, or not all of its weights.
    """
    import torch
    from torch.nn.functional import normalize

    from perennial.continual.learning.encoder_model import load_image_encoder

    prepared, encoder = Preprocessing.read(folder), load_image_encoder(folder)
    _leave_out_open_gates(encoder)
    kind = str(encoder.config.model_type)

    class ImageEncoderModule(torch.nn.Module):
        mean: torch.Tensor
        factor: torch.Tensor

        def __init__(self) -> None:
            super().__init__()
            self.network = encoder
            mean, std = (torch.tensor(three).reshape(1, 3, 1, 1) for three in (prepared.mean, prepared.std))
            self.register_buffer("mean", mean / prepared.scale, persistent=False)  # (v * scale - mean) / std, in one
            self.register_buffer("factor", prepared.scale / std, persistent=False)

        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            colours = pixels.permute(0, 3, 1, 2).to(torch.float32)  # (batch, 3, height, width)
            given = self.network(pixel_values=(colours - self.mean) * self.factor)
            return normalize(_pooled(kind, given), dim=-1)

    return ImageEncoderModule().eval().requires_grad_(False)


def _pooled(kind: str, given: Any) -> Any:
    hidden = given.last_hidden_state
    if hidden.dim() == 3:  # (batch, tokens, d)
        return hidden[:, 0]
    return given.pooler_output if kind in _POOLED else hidden.mean(dim=(2, 3))  # (batch, d, height, width)


def _leave_out_open_gates(encoder: Any) -> None:
    """Take out gates that let everything through: what stands for a network without them in a layout that has them."""
    import torch

    for name, part in list(encoder.named_modules()):
        last = getattr(part, "expand", None)
        if not name.endswith("squeeze_excite") or not isinstance(last, torch.nn.Conv2d) or last.bias is None:
            continue
        if not last.weight.any() and bool((last.bias > _OPEN).all()):
            parent, _, own = name.rpartition(".")
            setattr(encoder.get_submodule(parent), own, torch.nn.Identity())
