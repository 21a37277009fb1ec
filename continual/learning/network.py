"""The network that fine-tuning trains: an encoder with a linear head on its pooled embedding."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from perennial.continual.errors import ConfigurationError, DependencyUnreachable
from perennial.continual.learning.encoder import pool

__all__ = ["SCALE", "Tuned", "make_network"]

SCALE = 16.0  # logits = SCALE * embedding . weight + bias: unit embeddings need a steep head


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuned:
    """Which part of the encoder may change.

    >>> Tuned().frozen_layers
    0
    """

    frozen_layers: int = 0  # the lowest n transformer layers, and the token embeddings, stay as they are
    lora_rank: int = 0  # 0: no LoRA


def make_network(folder: Path, classes: NDArray[np.float32], tuned: Tuned) -> Any:
    """A torch module: `network(ids, mask)` gives logits (batch, C); it has `encoder`, `head` and `merged()`.

    Args:
        folder: of the encoder to start from.
        classes: (C, d), where the head's rows start: the mean embedding of each class, so that new classes begin as
            good as a nearest-mean classifier.
        tuned: which weights may change.

    Raises:
        ConfigurationError: more layers are frozen than there are.
        DependencyUnreachable: LoRA was asked for and peft is not installed.
    """
    import torch
    from transformers import AutoModel

    class Network(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            encoder = AutoModel.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False, dtype=torch.float32
            )
            _freeze(encoder, tuned.frozen_layers)
            self.encoder = _with_lora(encoder, tuned.lora_rank)
            self.head = torch.nn.Linear(classes.shape[1], classes.shape[0])
            with torch.no_grad():
                self.head.weight.copy_(torch.from_numpy(classes))
                self.head.bias.zero_()

        def forward(self, ids: Any, mask: Any) -> Any:
            hidden = self.encoder(input_ids=ids, attention_mask=mask).last_hidden_state
            return SCALE * torch.nn.functional.linear(pool(hidden, mask), self.head.weight) + self.head.bias

        def merged(self) -> Any:
            """The encoder as an ordinary model, LoRA folded in; the network is not to be trained on after it."""
            return self.encoder.merge_and_unload() if tuned.lora_rank else self.encoder

    return Network()


def _freeze(encoder: Any, layers: int) -> None:
    stack: Sequence[Any] = encoder.encoder.layer if layers else ()
    if layers > len(stack):
        raise ConfigurationError(f"{layers} layers to freeze, but the encoder has {len(stack)}; freeze fewer")
    if layers:
        encoder.embeddings.requires_grad_(requires_grad=False)
    for layer in stack[:layers]:
        layer.requires_grad_(requires_grad=False)
    if getattr(encoder, "pooler", None) is not None:
        encoder.pooler.requires_grad_(requires_grad=False)  # not part of a mean-pooled embedding


def _with_lora(encoder: Any, rank: int) -> Any:
    if not rank:
        return encoder
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError as error:
        raise DependencyUnreachable("LoRA needs peft; pip install 'perennial-serving[lora]'") from error
    settings = LoraConfig(r=rank, lora_alpha=2 * rank, lora_dropout=0.0, target_modules="all-linear")
    with warnings.catch_warnings():  # peft 0.21 asks transformers 5 for a deprecated property
        warnings.simplefilter("ignore", FutureWarning)
        return get_peft_model(encoder, settings)
