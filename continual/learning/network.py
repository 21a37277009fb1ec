"""The network that fine-tuning trains: an encoder with a linear head on its pooled embedding."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from perennial.continual.errors import ConfigurationError, DependencyUnreachable
from perennial.continual.learning.encoder_folder import read_facts
from perennial.continual.learning.encoder_model import load_encoder
from perennial.continual.learning.pooling import pool

__all__ = ["SCALE", "Tuned", "make_network", "transformer_layers"]

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

    `embed(ids, mask)` gives the embeddings (batch, d) that `classify` makes logits of.

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

    pooling = read_facts(folder).pooling

    class Network(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            encoder = load_encoder(folder)
            _freeze(encoder, tuned.frozen_layers)
            self.encoder = _with_lora(encoder, tuned.lora_rank)
            self.head = torch.nn.Linear(classes.shape[1], classes.shape[0])
            with torch.no_grad():
                self.head.weight.copy_(torch.from_numpy(classes))
                self.head.bias.zero_()

        def embed(self, ids: Any, mask: Any) -> Any:
            return pool(self.encoder(input_ids=ids, attention_mask=mask).last_hidden_state, mask, pooling)

        def classify(self, X: Any) -> Any:
            return SCALE * torch.nn.functional.linear(X, self.head.weight) + self.head.bias

        def forward(self, ids: Any, mask: Any) -> Any:
            return self.classify(self.embed(ids, mask))

        def merged(self) -> Any:
            """The encoder as an ordinary model, LoRA folded in; the network is not to be trained on after it."""
            return self.encoder.merge_and_unload() if tuned.lora_rank else self.encoder

    return Network()


def _freeze(encoder: Any, layers: int) -> None:
    """Keeps the token and position tables and the lowest layers as they are."""
    if not layers:
        return
    stack = transformer_layers(encoder)
    if layers > len(stack):
        raise ConfigurationError(f"{layers} layers to freeze, but the encoder has {len(stack)}; freeze fewer")
    behind = {id(weight) for layer in stack[layers:] for weight in layer.parameters()}
    first = next(place for place, (_, part) in enumerate(encoder.named_modules()) if part is stack[0])
    below = [part for _, part in list(encoder.named_modules())[1:first] if not _holds(part, stack[0])]
    for part in (*below, *stack[:layers], encoder.get_input_embeddings()):
        for weight in part.parameters():
            if id(weight) not in behind:
                weight.requires_grad_(requires_grad=False)


def transformer_layers(encoder: Any) -> Sequence[Any]:
    """The transformer's layers, lowest first: the list that is as long as the configuration says.

    Raises:
        ConfigurationError: there is no such list.
    """
    import torch

    count = getattr(encoder.config, "num_hidden_layers", None)
    for part in encoder.modules():
        if isinstance(part, torch.nn.ModuleList) and len(part) == count:
            return list(part)
    raise ConfigurationError(
        f"{encoder.config.model_type} has no list of {count} layers: none can be left out, nor frozen; use "
        "frozen_layers = 0"
    )


def _holds(part: Any, layer: Any) -> bool:
    return any(inner is layer for inner in part.modules())


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
