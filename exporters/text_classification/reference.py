"""The FP32 torch model that every engine is compared with, behind the same interface as an engine."""

from pathlib import Path
from typing import TYPE_CHECKING

from perennial.exporters.text_classification.answering import TextAnswerer
from perennial.exporters.text_classification.signature import TEXT_ENGINE
from perennial.exporters.text_classification.tokens import TextTokenizer
from perennial.exporters.torch_engine import TorchEngine
from perennial.exporters.trained import TrainedModel

if TYPE_CHECKING:
    import torch

__all__ = ["TorchClassifier"]


class TorchClassifier(TextAnswerer):
    """A trained model before any export: engine, tokenizer and labels, as a bundle has them."""

    def __init__(self, model: TrainedModel, tokenizer: Path, module: "torch.nn.Module | None" = None) -> None:
        self.module = model.module() if module is None else module
        engine = TorchEngine(self.module, TEXT_ENGINE)
        super().__init__(engine=engine, tokenizer=TextTokenizer(tokenizer), labels=model.labels)
