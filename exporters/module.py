"""The torch module behind a trained model: encoder, masked mean, unit length, head; its exported graph is clean."""

import hashlib
import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from perennial.continual.errors import DataError

if TYPE_CHECKING:
    import torch

__all__ = ["build_module", "encoder_parameters", "fingerprint_module"]

_MASKED_SCORE = -1e4  # exact in FP16 and BF16, and exp(-1e4) is 0 in each, so padding never reaches an answer
_OWN_MASK = frozenset({"bert", "roberta", "xlm-roberta", "electra", "camembert", "mpnet", "distilbert"})
_TYPED = frozenset({"bert", "electra"})


def build_module(
    encoder_folder: Path, head: Mapping[str, npt.NDArray[np.float32]], *, dimension: int
) -> "torch.nn.Module":
    """The FP32 module `(input_ids, attention_mask) -> (logits, embedding)`, in evaluation mode.

    Its parameters are named `encoder.*` and `head.*`; `dimension` is the length of the embeddings that the head reads.

    Raises:
        DataError: the folder holds no encoder of that dimension.
    """
    import torch

    encoder = _load_encoder(encoder_folder)
    kind = str(encoder.config.model_type)
    found = int(encoder.config.hidden_size)
    if found != dimension:
        raise DataError(f"{encoder_folder}: the head reads {dimension} values, the encoder gives {found}")

    class Classifier(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = encoder
            self.head = _build_head(head)

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            hidden = self.encoder(**_encoder_inputs(kind, input_ids, attention_mask)).last_hidden_state
            mask = attention_mask.unsqueeze(-1).to(hidden.dtype)  # (batch, sequence, 1)
            pooled = (hidden * mask).sum(1) / mask.sum(1).clamp(min=1e-9)  # (batch, d)
            embedding = torch.nn.functional.normalize(pooled, dim=-1)
            return self.head(embedding), embedding

    return Classifier().eval().requires_grad_(False)


def encoder_parameters(folder: Path) -> dict[str, npt.NDArray[Any]]:
    """The encoder's weights by module name (`encoder.` in front), float32."""
    state = _load_encoder(folder).state_dict()
    return {f"encoder.{name}": tensor.numpy() for name, tensor in state.items() if tensor.is_floating_point()}


def fingerprint_module(module: "torch.nn.Module") -> str:
    """SHA-256 over the weights' names, types and shapes, for engines that are compiled without an ONNX graph."""
    entries = [f"{name} {tensor.dtype} {tuple(tensor.shape)}" for name, tensor in sorted(module.state_dict().items())]
    return hashlib.sha256("\n".join(entries).encode()).hexdigest()


def _encoder_inputs(kind: str, input_ids: "torch.Tensor", attention_mask: "torch.Tensor") -> dict[str, "torch.Tensor"]:
    """Keyword inputs that keep mask building and position look-ups out of the graph, where the encoder allows."""
    import torch

    if kind not in _OWN_MASK:
        return {"input_ids": input_ids, "attention_mask": attention_mask}
    keep = attention_mask[:, None, None, :] > 0  # (batch, 1, 1, sequence)
    zero = torch.zeros((), dtype=torch.float32, device=input_ids.device)
    masked = torch.full((), _MASKED_SCORE, device=input_ids.device)
    inputs = {"input_ids": input_ids, "attention_mask": torch.where(keep, zero, masked)}
    if kind in _TYPED:
        inputs["token_type_ids"] = torch.zeros_like(input_ids)
        inputs["position_ids"] = torch.arange(input_ids.shape[1], device=input_ids.device).unsqueeze(0)
    return inputs


def _build_head(tensors: Mapping[str, npt.NDArray[np.float32]]) -> "torch.nn.Module":
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


def _load_encoder(folder: Path) -> Any:
    """The Hugging Face encoder on the CPU in float32, from the folder alone; never a pickle."""
    import torch
    import transformers

    logs: Any = transformers.logging
    level = logs.get_verbosity()
    bar = logs.is_progress_bar_enabled()
    logs.set_verbosity(logging.ERROR)
    logs.disable_progress_bar()
    try:
        encoder = transformers.AutoModel.from_pretrained(
            folder,
            attn_implementation="eager",
            dtype=torch.float32,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
        )
    except (OSError, ValueError) as exc:
        raise DataError(f"{folder} is not an encoder that transformers can load: {exc}") from exc
    finally:
        logs.set_verbosity(level)
        if bar:
            logs.enable_progress_bar()
    if hasattr(encoder, "pooler"):
        encoder.pooler = None  # the answer is the masked mean; a pooler would only ride along as dead weight
    return encoder.eval()
