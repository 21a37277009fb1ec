"""A decoder in torch: the graph that is traced, and what every engine of it must write like."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import DynamicCache

from perennial.exporters.engine import Inputs, Outputs
from perennial.exporters.generation.codec import Codec
from perennial.exporters.generation.decoding import DecodingEngine
from perennial.exporters.generation.part import GenerationPart
from perennial.exporters.generation.signature import REWRITE_ENGINE
from perennial.exporters.generation.steps import NEXT, GraphSteps, Run, present_names

__all__ = ["DecoderModule", "OneStep"]


class OneStep(torch.nn.Module):
    """Logits of the token that follows, and keys and values with those of these tokens.

    It takes `input_ids` and `position_ids` (1, n), then `past_key` and `past_value` (1, heads, past, width) by layer.
    """

    def __init__(self, decoder: Any) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(self, ids: torch.Tensor, places: torch.Tensor, *past: torch.Tensor) -> tuple[torch.Tensor, ...]:
        cache = DynamicCache()
        for layer in range(len(past) // 2):
            cache.update(past[2 * layer], past[2 * layer + 1], layer)
        total = past[0].shape[2] + ids.shape[1]
        behind = torch.arange(total)[None, :] > places[0][:, None]  # (n, past + n)
        mask = behind.to(torch.float32)[None, None] * torch.finfo(torch.float32).min
        answered = self.decoder(
            input_ids=ids,
            position_ids=places,
            attention_mask=mask,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        layers: Any = cache.layers
        present = [part for layer in layers for part in (layer.keys, layer.values)]
        return (answered.logits[:, -1], *present)


def _in_torch(one: OneStep) -> Run:
    """A step as a runtime takes it."""

    def run(feed: Inputs) -> Outputs:
        with torch.inference_mode():
            made = one(*(torch.from_numpy(np.ascontiguousarray(array)) for array in feed.values()))
        names = (NEXT, *present_names((len(made) - 1) // 2))
        return {name: tensor.numpy() for name, tensor in zip(names, made, strict=True)}

    return run


class DecoderModule(torch.nn.Module):
    """It takes and gives what an engine does."""

    def __init__(self, decoder: Any, part: GenerationPart, folder: Path) -> None:
        super().__init__()
        self.one, self.part = OneStep(decoder), part
        self._engine = DecodingEngine(GraphSteps(part, _in_torch(self.one)), Codec(folder, part))

    def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Tokens and the highest logits."""
        named = {name: array.numpy() for name, array in zip(REWRITE_ENGINE.input_names, inputs, strict=True)}
        outputs = self._engine.infer(named)
        return tuple(torch.from_numpy(outputs[name]) for name in REWRITE_ENGINE.output_names)
