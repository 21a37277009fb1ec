"""Continued pre-training of an encoder on unlabelled texts, by masked language modelling: an optional first step."""

import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from perennial.continual.atomic_file import folder_written_whole
from perennial.continual.errors import ConfigurationError, TrainingFailed
from perennial.continual.learning.context import Context
from perennial.continual.learning.encoder import load_tokenizer, padded_tensors
from perennial.continual.learning.encoder_folder import copy_beside_weights
from perennial.continual.learning.encoder_model import load_encoder
from perennial.continual.learning.trainer import Schedule
from perennial.continual.processor import has_fast_bf16

__all__ = ["Pretraining", "pretrain"]

logger = logging.getLogger(__name__)

_DONE = "pretrained.json"
_MASKS = ("[MASK]", "<mask>")
_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "<pad>", "<unk>", "<s>", "</s>", *_MASKS)
_IGNORED = -100  # torch's mark for a token whose prediction doesn't count


@dataclass(frozen=True, slots=True, kw_only=True)
class Pretraining:
    """How long and how hard to pre-train.

    >>> Pretraining().mask_share
    0.15
    """

    epochs: int = 1
    batch: int = 32
    learning_rate: float = 5e-5
    mask_share: float = 0.15
    seed: int = 0

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch < 1 or not 0 < self.mask_share < 1 or not self.learning_rate > 0:
            raise ConfigurationError(f"pre-training needs epochs, batch, a rate and a share in (0, 1); it has {self}")


def pretrain(
    encoder: Path, texts: Sequence[str], out: Path, settings: Pretraining, *, max_length: int, context: Context
) -> Path:
    """A Hugging Face folder of the encoder after guessing masked tokens of the texts; `out` itself.

    Of the tokens 15% are to be guessed: 80% of these are masked, 10% replaced by a random token, 10% left as they are.
    The output layer shares the token embeddings and is thrown away afterwards. A finished folder of the same encoder,
    texts and settings is returned as it is; one that was not finished begins anew.

    It pays where traffic speaks another language than the encoder was trained on; docs/learning.md has a measurement.

    Source: Devlin et al. 2019, section 3.1; Gururangan et al. 2020, "Don't Stop Pretraining".

    Raises:
        ConfigurationError: the tokenizer has no mask token, or there are no texts.
        TrainingFailed: the loss is no longer a number.
        Cancelled: the context was told to stop.
    """
    tokenizer = load_tokenizer(encoder, max_length)
    mask = next((place for name in _MASKS if (place := tokenizer.token_to_id(name)) is not None), None)
    if mask is None or not texts:
        raise ConfigurationError(
            f"pre-training of {encoder} with mask token {mask} on {len(texts)} texts; it needs a tokenizer with "
            "[MASK] or <mask>, and texts; leave the step out"
        )
    identity = _identity(encoder, texts, settings, max_length)
    if (out / _DONE).is_file() and json.loads((out / _DONE).read_bytes())["identity"] == identity:
        return out
    model, losses = _train(encoder, tokenizer, mask, texts, settings, context)
    tenth = max(1, len(losses) // 10)
    first, last = float(np.mean(losses[:tenth])), float(np.mean(losses[-tenth:]))
    summary = {"identity": identity, "texts": len(texts), "steps": len(losses), "first_loss": first, "last_loss": last}
    with folder_written_whole(out) as staging:
        model.save_pretrained(staging, safe_serialization=True)
        copy_beside_weights(encoder, staging)
        (staging / _DONE).write_text(json.dumps(summary), encoding="utf-8")
    logger.info("training.encoder_pretrained", extra={name: summary[name] for name in summary if name != "identity"})
    return out


def _identity(encoder: Path, texts: Sequence[str], settings: Pretraining, max_length: int) -> str:
    described = json.dumps([str(encoder), asdict(settings), max_length, list(texts)], sort_keys=True)
    return hashlib.sha256(described.encode()).hexdigest()


def _train(
    folder: Path, tokenizer: Any, mask: int, texts: Sequence[str], settings: Pretraining, context: Context
) -> tuple[Any, list[float]]:
    import torch

    torch.manual_seed(settings.seed)
    encoder = load_encoder(folder)
    words = encoder.get_input_embeddings().weight
    width = words.shape[1]  # smaller than the encoder's own in ALBERT and ELECTRA
    outward = torch.nn.Linear(int(encoder.config.hidden_size), width)
    before = torch.nn.Sequential(outward, torch.nn.GELU(), torch.nn.LayerNorm(width))
    bias = torch.nn.Parameter(torch.zeros(len(words)))
    weights = [*encoder.parameters(), *before.parameters(), bias]
    optimiser = torch.optim.AdamW(weights, lr=settings.learning_rate, weight_decay=0.01)
    schedule = Schedule(epochs=settings.epochs, batch=settings.batch)
    rows = [row.ids for row in tokenizer.encode_batch(list(texts))]
    special = {tokenizer.token_to_id(name) for name in _SPECIAL}
    total, an_epoch = schedule.steps(len(rows)), -(-len(rows) // settings.batch)
    losses: list[float] = []
    encoder.train()
    for step in range(total):
        epoch, place = divmod(step, an_epoch)
        order = np.random.default_rng([settings.seed, 1, epoch]).permutation(len(rows))
        part = [rows[row] for row in order[place * settings.batch : (place + 1) * settings.batch]]
        rng = np.random.default_rng([settings.seed, 2, step])
        hidden, wanted = _masked(part, mask, special, len(words), settings.mask_share, rng)
        ids, attention = padded_tensors(hidden)
        truth = torch.full(ids.shape, _IGNORED)
        for row, values in enumerate(wanted):
            truth[row, : len(values)] = torch.as_tensor(values)
        for group in optimiser.param_groups:
            group["lr"] = settings.learning_rate * schedule.factor(step, total)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=has_fast_bf16()):
            states = encoder(input_ids=ids, attention_mask=attention).last_hidden_state[truth != _IGNORED]
            logits = torch.nn.functional.linear(before(states), words, bias)
        loss: Any = torch.nn.functional.cross_entropy(logits.float(), truth[truth != _IGNORED])
        if not torch.isfinite(loss):
            raise TrainingFailed(f"the pre-training loss is {float(loss)} at step {step}; lower the learning rate")
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimiser.step()
        losses.append(float(loss.detach()))
        context.report("pretrain", step + 1, total)
        context.checkpoint()
    return encoder.eval(), losses


def _masked(
    rows: Sequence[Sequence[int]], mask: int, special: set[int | None], words: int, share: float, rng: Any
) -> tuple[list[list[int]], list[list[int]]]:
    """Rows with tokens hidden, and what they were; at least one token of the batch is to be guessed."""
    hidden, wanted = [list(row) for row in rows], [[_IGNORED] * len(row) for row in rows]
    free = [(row, place) for row, ids in enumerate(rows) for place, token in enumerate(ids) if token not in special]
    count = min(len(free), max(1, round(share * len(free))))
    chosen: NDArray[np.int64] = rng.choice(len(free), size=count, replace=False) if free else np.zeros(0, np.int64)
    for row, place in (free[int(one)] for one in chosen):
        wanted[row][place] = rows[row][place]
        kind = rng.random()
        if kind < 0.9:
            hidden[row][place] = mask if kind < 0.8 else int(rng.integers(words))
    if not free:
        wanted[0][0] = rows[0][0]  # nothing but special tokens: guess one of them rather than nothing
    return hidden, wanted
