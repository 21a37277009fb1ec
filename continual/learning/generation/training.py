"""A decoder as it is, or with an adapter learnt from accepted edits, and how near it comes to edits kept back."""

import logging
import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perennial.continual.errors import ConfigurationError
from perennial.continual.learning.card import ModelCard, is_finished, read_card
from perennial.continual.learning.context import Context
from perennial.continual.learning.generation.adapter import Adapter
from perennial.continual.learning.generation.prompt import Prompt
from perennial.continual.learning.generation.trained import (
    DEFAULT_DECODER,
    TOKENIZER_FILE,
    TrainedDecoder,
    decoder_folder,
    load_decoder,
)
from perennial.continual.learning.names import LearnerName
from perennial.continual.learning.rows import read_task_rows
from perennial.continual.learning.spec import JobSpec
from perennial.continual.tasks.generation import AcceptedEdit, Generation, check_rewrite

if TYPE_CHECKING:
    import torch

__all__ = ["RewriterSettings", "train_rewriter"]

logger = logging.getLogger(__name__)
_LONGEST = 512  # tokens of a row; the rest of it is not learnt
_BATCH = 8  # rows a step
_KINDS: Mapping[str, tuple[type, ...]] = {
    "decoder": (str,),
    "guided": (bool,),
    "rank": (int,),
    "epochs": (int,),
    "rate": (float, int),
    "most_rows": (int,),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class RewriterSettings:
    """`[models.NAME.learning.params]` of a rewriter.

    >>> RewriterSettings.of({"rank": 4}).rank
    4
    """

    decoder: str = DEFAULT_DECODER
    guided: bool = True
    rank: int = 8
    epochs: int = 2
    rate: float = 1e-3
    most_rows: int = 2_000

    def __post_init__(self) -> None:
        for name, kinds in _KINDS.items():
            value = getattr(self, name)
            if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
                raise ConfigurationError(
                    f"params of a rewriter: {name} is {value!r}; it must be {kinds[0].__name__}, see docs/generation.md"
                )
        if min(self.rank, self.most_rows) < 1 or self.epochs < 0 or not 0 < self.rate < 1:
            raise ConfigurationError(
                f"params of a rewriter: rank {self.rank} and most_rows {self.most_rows} must be at least 1, epochs "
                f"{self.epochs} at least 0, rate {self.rate} above 0 and below 1"
            )

    @classmethod
    def of(cls, params: Mapping[str, Any]) -> "RewriterSettings":
        """The settings in a job's params.

        Raises:
            ConfigurationError: a name is unknown, or a value is of the wrong kind or out of range.
        """
        if unknown := sorted(params.keys() - cls.__dataclass_fields__.keys()):
            raise ConfigurationError(
                f"params of a rewriter: {unknown} are unknown; there are {', '.join(cls.__dataclass_fields__)}"
            )
        return cls(**params)


def train_rewriter(spec: JobSpec, context: Context) -> ModelCard:
    """Learn from the edits of `examples` and `replay` that change no fact, on from `previous`; write the folder.

    Without such edits the decoder stays as it is.

    Raises:
        DataError, ConfigurationError: the spec or its files are wrong.
        Cancelled: the context was told to stop.
    """
    settings, now = RewriterSettings.of(spec.params), datetime.now(UTC)
    read = {name: _rows(getattr(spec, name), now) for name in ("examples", "replay", "holdout")}
    fresh = [row for name in ("examples", "replay") for row in read[name]]
    rows = [row for row in fresh if check_rewrite(row.input.approved, row.target, name=row.input.name).let_through]
    name = _decoder_name(spec, settings)
    adapter = None if spec.previous is None else Adapter.read(spec.previous)
    metrics: dict[str, float] = {"edits_that_change_facts": float(len(fresh) - len(rows))}
    if rows and settings.epochs:
        adapter, learnt = _learn(
            decoder_folder(name), adapter, rows[-settings.most_rows :], read["holdout"], settings, spec, context
        )
        metrics |= learnt
    context.checkpoint()
    trained = TrainedDecoder.take(
        name,
        spec.out,
        learner=LearnerName.REWRITER.value,
        adapter=adapter,
        parent_version=spec.parent_version,
        metrics=metrics,
        data={"rows": len(rows), "replay_rows": len(read["replay"])},
        settings=asdict(settings),
    )
    logger.info("training.rewriter_trained", extra={"rows": len(rows), "decoder": name})
    return trained.card


def _decoder_name(spec: JobSpec, settings: RewriterSettings) -> str:
    """The decoder that the version before has: an adapter is of no other one."""
    if spec.previous is not None and is_finished(spec.previous):
        return read_card(spec.previous).encoder
    return settings.decoder


def _rows(path: Path | None, now: datetime) -> list[AcceptedEdit]:
    rows: list[Any] = read_task_rows(path, Generation(), now=now)
    return rows


def _learn(
    folder: Path,
    before: Adapter | None,
    rows: Sequence[AcceptedEdit],
    held_out: Sequence[AcceptedEdit],
    settings: RewriterSettings,
    spec: JobSpec,
    context: Context,
) -> tuple[Adapter, dict[str, float]]:
    import torch

    model, reader = load_decoder(folder), _Reader(folder)
    if spec.threads:
        torch.set_num_threads(spec.threads)
    adapter = Adapter.fresh(model, rank=settings.rank, seed=spec.seed) if before is None else before
    for part in adapter.parameters:
        part.requires_grad_()
    proved = [reader.row(row) for row in held_out]
    learnt = [reader.row(row) for row in rows]
    figures = {"holdout_loss_before": _loss_of(model, adapter, proved)} if proved else {}
    optimiser = torch.optim.AdamW(adapter.parameters, lr=settings.rate, weight_decay=0.0)
    dice, steps = random.Random(spec.seed), settings.epochs * len(learnt)
    done = 0
    for _ in range(settings.epochs):
        for start in range(0, len(order := dice.sample(learnt, len(learnt))), _BATCH):
            optimiser.zero_grad()
            for ids, begins in order[start : start + _BATCH]:
                with adapter.hold(model):
                    loss: Any = _loss(model, ids, begins) / _BATCH
                    loss.backward()
                done += 1
            optimiser.step()
            context.report("learn", done, steps)
            context.checkpoint()
    if proved:
        figures["holdout_loss"] = _loss_of(model, adapter, proved)
    return adapter, figures


class _Reader:
    """Rows as tokens, and where the accepted text begins in them."""

    def __init__(self, folder: Path) -> None:
        from tokenizers import Tokenizer

        from perennial.continual.learning.encoder_model import chat_tokenizer

        tokenizer = chat_tokenizer(folder)
        self._end = [] if tokenizer.eos_token_id is None else [int(tokenizer.eos_token_id)]
        self._prompt = Prompt.of(tokenizer, ends=tuple(self._end))
        self._tokenizer = Tokenizer.from_file(str(folder / TOKENIZER_FILE))

    def row(self, edit: AcceptedEdit) -> tuple["torch.Tensor", int]:
        import torch

        asked, accepted = self._ids(self._prompt.ask(edit.input)), self._ids(edit.target)
        return torch.tensor([[*asked, *accepted, *self._end][:_LONGEST]]), min(len(asked), _LONGEST - 1)

    def _ids(self, text: str) -> list[int]:
        return list(self._tokenizer.encode(text, add_special_tokens=False).ids)


def _loss(model: Any, ids: "torch.Tensor", begins: int) -> "torch.Tensor":
    """The mean surprise at each token of the accepted text."""
    import torch

    logits = model(input_ids=ids, use_cache=False).logits[0, begins - 1 : -1]
    return torch.nn.functional.cross_entropy(logits, ids[0, begins:])


def _loss_of(model: Any, adapter: Adapter, rows: Sequence[tuple["torch.Tensor", int]]) -> float:
    import torch

    with torch.inference_mode(), adapter.hold(model):
        return float(sum(_loss(model, ids, begins).item() for ids, begins in rows) / len(rows))
