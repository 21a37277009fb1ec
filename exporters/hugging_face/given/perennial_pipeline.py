"""Texts to labels as Perennial serves them: a text is cleaned, cut, and its words count where the head has any."""

from pathlib import Path
from typing import Any

import torch
from transformers import TextClassificationPipeline
from transformers.utils.hub import cached_file

from .perennial_parts import WordScores, clean, fold_width

__all__ = ["PerennialPipeline"]

_WORDS_FILE = "words.safetensors"


class PerennialPipeline(TextClassificationPipeline):
    """`pipeline("text-classification", model=FOLDER, trust_remote_code=True)` makes it."""

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)  # type: ignore[no-untyped-call]
        self._words: WordScores | None = None
        if getattr(self.model.config, "words", False):
            self._words = WordScores.read(Path(str(cached_file(str(self.model.name_or_path), _WORDS_FILE))))

    def preprocess(self, inputs: Any, **named: Any) -> dict[str, Any]:  # type: ignore[override]  # as its parent
        """Token ids of one text, or of one under "text", and what its words add to the logits."""
        given = inputs if isinstance(inputs, str) else inputs["text"]
        text = clean(fold_width(given) if getattr(self.model.config, "folds_width", False) else given)
        encoded: dict[str, Any] = super().preprocess(text, **{"truncation": True, **named})
        if not encoded["input_ids"].shape[1]:  # a text without a token counts as one padding id
            tokenizer: Any = self.tokenizer
            one = torch.ones(1, 1, dtype=torch.long)
            encoded["input_ids"], encoded["attention_mask"] = one * tokenizer.pad_token_id, one
        if self._words is not None:
            encoded["words"] = torch.from_numpy(self._words([text]))
        return encoded

    def _forward(self, model_inputs: Any, **named: Any) -> Any:  # type: ignore[override]  # as its parent
        words = model_inputs.pop("words", None)
        outputs = super()._forward(model_inputs, **named)  # type: ignore[no-untyped-call]
        if words is not None and self._words is not None:
            sums = (outputs["logits"].float() + words.to(outputs["logits"].device)).cpu().numpy()
            outputs["logits"] = torch.from_numpy(self._words.linked(sums))
        return outputs
