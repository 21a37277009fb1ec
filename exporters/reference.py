"""The FP32 torch model that every engine is compared with, behind the same interface as an engine."""

from pathlib import Path
from typing import TYPE_CHECKING

from perennial.exporters.classifier import TextTokenizer
from perennial.exporters.engine import Floats, Tokens
from perennial.exporters.trained import TrainedModel

if TYPE_CHECKING:
    import torch

__all__ = ["TorchClassifier", "TorchEngine"]


class TorchEngine:
    """The torch module as an engine."""

    def __init__(self, module: "torch.nn.Module") -> None:
        self._module = module

    def infer(self, input_ids: Tokens, attention_mask: Tokens) -> tuple[Floats, Floats]:
        import torch

        with torch.inference_mode():
            logits, embedding = self._module(torch.from_numpy(input_ids), torch.from_numpy(attention_mask))
        return logits.numpy(), embedding.numpy()


class TorchClassifier:
    """A trained model before any export: engine, tokenizer and labels, as a bundle has them."""

    def __init__(self, model: TrainedModel, tokenizer: Path, module: "torch.nn.Module | None" = None) -> None:
        self.module = model.module() if module is None else module
        self.engine = TorchEngine(self.module)
        self.tokenizer = TextTokenizer(tokenizer)
        self.labels = model.labels
