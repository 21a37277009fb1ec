"""The torch module of a classifier that was fine-tuned elsewhere: its encoder, and all that it does after it."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from perennial.continual.errors import ExportFailed
from perennial.continual.learning.encoder_folder import load_tokenizer, read_facts
from perennial.continual.learning.encoder_model import load_classifier
from perennial.continual.learning.pooling import pool
from perennial.exporters.buckets import tabulate_buckets
from perennial.exporters.inputs import encoder_inputs

if TYPE_CHECKING:
    import torch

__all__ = ["build_adopted"]

_CLOSE = 1e-3  # of the logits' own size: sums in another order, and nothing else
_ASKED = ("a", "one two three", "Why was my card declined again, and when is the next one?")


def build_adopted(folder: Path) -> "torch.nn.Module":
    """The FP32 module `(input_ids, attention_mask) -> (logits, embedding)` of the classifier in `folder`.

    Its parameters are named `encoder.*` and `head.*`. The head is the classifier itself with its encoder taken out: it
    is given what the encoder answered, and goes on as transformers wrote it, whatever kind of head it is.

    Raises:
        ConfigurationError: the folder holds no whole classifier.
        ExportFailed: the parts do not answer as the whole did.
    """
    import torch

    whole, facts = load_classifier(folder), read_facts(folder)
    tokenizer = load_tokenizer(folder, 128)
    rows = [row.ids for row in tokenizer.encode_batch(list(_ASKED)) if row.ids]
    framed = bool(tokenizer.encode("").ids)
    with torch.no_grad():
        wanted = [whole(input_ids=torch.tensor([row]), attention_mask=torch.ones(1, len(row)).long()) for row in rows]
    encoder = getattr(whole, whole.base_model_prefix)
    if whole.config.pad_token_id is None:
        whole.config.pad_token_id = -1
    padding = int(whole.config.pad_token_id)
    answered: list[Any] = []  # what the encoder said; the head takes it from here

    class Said(torch.nn.Module):
        def forward(self, *_: Any, **__: Any) -> Any:
            return answered[-1]

    setattr(whole, whole.base_model_prefix, Said())
    tabulate_buckets(encoder)

    class Classifier(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = encoder
            self.head = whole

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            if not framed:  # a row without any token is answered by its first place, however far it is padded
                first = torch.arange(attention_mask.shape[1], device=attention_mask.device) == 0
                attention_mask = torch.where(first & (attention_mask.sum(1, keepdim=True) == 0), 1, attention_mask)
            encoded = self.encoder(**encoder_inputs(facts.kind, input_ids, attention_mask))
            answered.append(encoded)
            try:
                padded = torch.where(attention_mask > 0, input_ids, padding)  # heads find the last token by it
                logits = self.head(input_ids=padded, attention_mask=attention_mask).logits
            finally:
                answered.clear()
            return logits, pool(encoded.last_hidden_state, attention_mask, facts.pooling)

    module = Classifier().eval().requires_grad_(False)
    _check(module, folder, rows, [answer.logits for answer in wanted])
    return module


def _check(module: "torch.nn.Module", folder: Path, rows: list[list[int]], wanted: list["torch.Tensor"]) -> None:
    """Compare the parts with the whole, which was asked each row alone; the parts are asked them padded together."""
    import torch

    longest = max(len(row) for row in rows)
    ids = torch.tensor([row + [0] * (longest - len(row)) for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
    with torch.no_grad():
        seen = module(ids, mask)[0]
    expected = torch.cat(wanted)
    apart, size = float((seen - expected).abs().max()), max(1.0, float(expected.abs().max()))
    if not apart <= _CLOSE * size:
        raise ExportFailed(
            f"the parts of the classifier in {folder} answer otherwise than the whole, by {apart:.3g} of logits up to "
            f"{size:.3g}; this kind of head cannot be taken over"
        )
