"""The torch module behind a trained model: encoder, pooling, unit length, head; its exported graph is clean."""

import hashlib
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from perennial.continual.errors import DataError
from perennial.continual.learning.encoder_folder import read_facts
from perennial.continual.learning.encoder_model import load_encoder
from perennial.continual.learning.pooling import pool
from perennial.exporters.buckets import tabulate_buckets
from perennial.exporters.inputs import encoder_inputs

if TYPE_CHECKING:
    import torch

__all__ = ["build_head", "build_module", "encoder_parameters", "fingerprint_module", "weights_of"]


def build_module(
    encoder_folder: Path, head: Mapping[str, npt.NDArray[np.float32]], *, dimension: int
) -> "torch.nn.Module":
    """The FP32 module `(input_ids, attention_mask) -> (logits, embedding)`, in evaluation mode.

    Its parameters are named `encoder.*` and `head.*`; `dimension` is the length of the embeddings that the head reads.

    Raises:
        ConfigurationError: the folder holds no encoder.
        DataError: the encoder has another dimension.
    """
    import torch

    encoder, facts = load_encoder(encoder_folder, attention="eager"), read_facts(encoder_folder)
    if facts.dimension != dimension:
        raise DataError(f"{encoder_folder}: the head reads {dimension} values, the encoder gives {facts.dimension}")
    tabulate_buckets(encoder)

    class Classifier(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = encoder
            self.head = build_head(head)

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            hidden = self.encoder(**encoder_inputs(facts.kind, input_ids, attention_mask)).last_hidden_state
            embedding = pool(hidden, attention_mask, facts.pooling)
            return self.head(embedding), embedding

    return Classifier().eval().requires_grad_(False)


def encoder_parameters(folder: Path) -> dict[str, npt.NDArray[Any]]:
    """The encoder's weights by module name (`encoder.` in front), float32; one that has two names, by its first."""
    encoder = load_encoder(folder, attention="eager")
    return {f"encoder.{name}": tensor.detach().numpy() for name, tensor in weights_of(encoder)}


def weights_of(module: "torch.nn.Module") -> list[tuple[str, "torch.Tensor"]]:
    """What training and saving change: parameters and saved buffers that hold real numbers.

    Positions and token types lie in buffers too, as whole numbers; they are part of the graph.
    """
    saved = module.state_dict().keys()
    tensors = [*module.named_parameters(), *((name, value) for name, value in module.named_buffers() if name in saved)]
    return [(name, value) for name, value in tensors if value.is_floating_point()]


def fingerprint_module(module: "torch.nn.Module") -> str:
    """SHA-256 over the weights' names, types and shapes, for engines that are compiled without an ONNX graph."""
    entries = [f"{name} {tensor.dtype} {tuple(tensor.shape)}" for name, tensor in sorted(module.state_dict().items())]
    return hashlib.sha256("\n".join(entries).encode()).hexdigest()


def build_head(tensors: Mapping[str, npt.NDArray[np.float32]]) -> "torch.nn.Module":
    """The module embeddings (batch, d) -> logits (batch, C), with the head's tensors as its parameters."""
    import torch

    class Head(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            for name, tensor in tensors.items():
                self.register_parameter(name, torch.nn.Parameter(torch.from_numpy(tensor.copy())))
            self.scale = math.sqrt(2.0 / tensors["omega"].shape[1]) if "omega" in tensors else 1.0

        def forward(self, embedding: torch.Tensor) -> torch.Tensor:
            weights = dict(self.named_parameters())
            features = embedding
            if "omega" in weights:  # random Fourier features of a Gaussian kernel: (batch, D)
                features = self.scale * torch.cos(embedding @ weights["omega"] + weights["phase"])
            return torch.nn.functional.linear(features, weights["weight"], weights["bias"])

    return Head()
