"""The training loop of the slow learner: deterministic, with checkpoints from which it goes on exactly."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from perennial.continual.atomic_file import written_whole
from perennial.continual.errors import DataError, TrainingFailed
from perennial.continual.learning.augmentation import augment
from perennial.continual.learning.context import Context
from perennial.continual.learning.disturbance import Disturbed
from perennial.continual.learning.encoder import padded_tensors
from perennial.continual.learning.strategies.port import Batch, Strategy
from perennial.continual.processor import has_fast_bf16
from perennial.continual.robustness.changes import with_synonyms, with_typos

__all__ = ["Corpus", "Schedule", "Trainer"]

logger = logging.getLogger(__name__)

_POOL = 16  # batches whose rows are sorted by length


@dataclass(frozen=True, slots=True, kw_only=True)
class Corpus:
    """Rows to train on.

    >>> Corpus(texts=("a",), truth=np.zeros(1, np.int64), teacher=np.zeros((1, 2), np.float32)).texts
    ('a',)
    """

    texts: tuple[str, ...]
    truth: NDArray[np.int64]  # (rows,)
    teacher: NDArray[np.float32]  # (rows, C); NaN where the previous model did not know the class
    meant: NDArray[np.float32] | None = None  # (rows, d): the teacher's embeddings, where a student shall have them

    def joined(self, other: "Corpus") -> "Corpus":
        """Both corpora's rows, without what only a student is taught."""
        return Corpus(
            texts=self.texts + other.texts,
            truth=np.concatenate([self.truth, other.truth]),
            teacher=np.concatenate([self.teacher, other.teacher]),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """How long and how hard to train.

    >>> Schedule(epochs=2, batch=32).steps(rows=100)
    8
    """

    epochs: int = 3
    batch: int = 32
    learning_rate: float = 2e-4
    head_learning_rate: float = 2e-3
    warmup: float = 0.1  # share of the steps
    weight_decay: float = 0.01
    patience: int = 2  # epochs without a better held-out loss before stopping
    checkpoint_steps: int = 25
    augment: float = 0.0  # share of words left out; 0: no augmentation
    typos: float = 0.0  # share of the texts that get slips of the keyboard, drawn anew each time
    synonyms: float = 0.0  # share of the texts whose words of a small list are replaced by others of the same meaning
    adversary: float = 0.0  # length of a step of the token table against the model, by its gradient; 0: none
    embedding_noise: float = 0.0  # as in NEFTune, by whose paper 5 is usual; 0: none
    seed: int = 0

    def steps(self, rows: int) -> int:
        """Optimiser steps in all."""
        return self.epochs * -(-rows // self.batch)

    def factor(self, step: int, total: int) -> float:
        """What the learning rates are multiplied by: up linearly, then down linearly to 0."""
        warm = max(1, round(self.warmup * total))
        return (step + 1) / warm if step < warm else max(0.0, (total - step) / max(1, total - warm))


class Trainer:
    """Trains one network on one corpus with one strategy.

    Which rows a step sees, and how they are augmented, follows from the seed and the step's number alone; the rest
    (weights, optimiser, torch's random state, the best epoch so far) is in the checkpoint. A training that was killed
    and started again therefore ends in the same weights as one that was not, on the same machine and thread count.

    >>> Trainer.run.__name__
    'run'
    """

    def __init__(
        self,
        *,
        network: Any,
        tokenizer: Any,
        strategy: Strategy,
        schedule: Schedule,
        class_weights: NDArray[np.float32] | None,
        checkpoint: Path,
    ) -> None:
        import torch

        self.network, self.strategy, self.schedule = network, strategy, schedule
        self._tokenizer, self._checkpoint = tokenizer, checkpoint
        self._weights = None if class_weights is None else torch.from_numpy(class_weights)
        encoder = [weight for weight in network.encoder.parameters() if weight.requires_grad]
        groups = [
            {"params": encoder, "lr": schedule.learning_rate, "peak": schedule.learning_rate},
            {"params": list(network.head.parameters()), "lr": 0.0, "peak": schedule.head_learning_rate},
        ]
        self._optimiser = torch.optim.AdamW([g for g in groups if g["params"]], weight_decay=schedule.weight_decay)
        self._best: dict[str, Any] = {"loss": float("inf"), "epoch": -1, "state": {}}
        self._disturbed = Disturbed(network, adversary=schedule.adversary, noise=schedule.embedding_noise)

    def run(self, fresh: Corpus, replay: Corpus, held_out: Corpus, context: Context) -> dict[str, float]:
        """Trains, leaves the best epoch's weights in the network and returns the figures.

        Raises:
            TrainingFailed: the loss is no longer a number.
            Cancelled: the context was told to stop; a checkpoint has been written.
        """
        import torch

        torch.manual_seed(self.schedule.seed)
        self.strategy.begin(self.network, self._batches(replay))
        corpus = fresh.joined(replay) if self.strategy.mixes else fresh
        total, an_epoch = self.schedule.steps(len(corpus.texts)), -(-len(corpus.texts) // self.schedule.batch)
        step, order = self._resume(), None
        while step < total:
            epoch, place = divmod(step, an_epoch)
            if place == 0 and epoch - self._best["epoch"] > self.schedule.patience:
                break
            if place == 0 or order is None:
                order = self._order(epoch, corpus)
            rows = order[place * self.schedule.batch : (place + 1) * self.schedule.batch]
            self._step(step, total, self._batch(corpus, rows, step), self._replay_rows(step, replay))
            step += 1
            if step % an_epoch == 0 and held_out.texts:
                self._judge(epoch, held_out)
            context.report("train", step, total)
            if step % self.schedule.checkpoint_steps == 0 or step == total or context.cancelled:
                self._save(step)
                context.checkpoint()
        if self._best["state"]:
            self.network.load_state_dict(self._best["state"], strict=False)
        self.network.eval()
        return {"steps": float(step), "best_epoch": float(self._best["epoch"])}

    def _step(self, step: int, total: int, fresh: Batch, replay: Batch | None) -> None:
        import torch

        self.network.train()
        for group in self._optimiser.param_groups:
            group["lr"] = group["peak"] * self.schedule.factor(step, total)
        self._optimiser.zero_grad()
        with self._disturbed.noise():
            self._backward(step, fresh, replay)
        with self._disturbed.against() as disturbed:
            if disturbed:
                self._backward(step, fresh, replay)
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self._optimiser.step()

    def _backward(self, step: int, fresh: Batch, replay: Batch | None) -> None:
        """Add the loss's gradients to those that are there."""
        import torch

        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=has_fast_bf16()):
            loss = self.strategy.loss(self.network, fresh, replay, self._weights)
        if not torch.isfinite(loss):
            raise TrainingFailed(f"the loss is {float(loss)} at step {step}; lower the learning rate and run it again")
        loss.backward()

    def _judge(self, epoch: int, held_out: Corpus) -> None:
        """Keeps the weights if the held-out loss is the smallest so far."""
        import torch
        from torch.nn import functional

        self.network.eval()
        with torch.inference_mode():
            losses = [
                functional.cross_entropy(self.network(batch.ids, batch.mask).float(), batch.truth, reduction="sum")
                for batch in self._batches(held_out)
            ]
        loss = float(sum(losses)) / len(held_out.texts)
        logger.info("training.epoch_judged", extra={"epoch": epoch, "held_out_loss": loss})
        if loss < self._best["loss"]:
            state = {name: value.detach().clone() for name, value in self._trainable().items()}
            self._best = {"loss": loss, "epoch": epoch, "state": state}

    def _order(self, epoch: int, corpus: Corpus) -> NDArray[np.int64]:
        return _by_length(corpus.texts, self.schedule.batch, np.random.default_rng([self.schedule.seed, 1, epoch]))

    def _replay_rows(self, step: int, replay: Corpus) -> Batch | None:
        if not (self.strategy.wants_replay and replay.texts):
            return None
        rng = np.random.default_rng([self.schedule.seed, 2, step])
        size = min(self.schedule.batch, len(replay.texts))
        return self._batch(replay, rng.choice(len(replay.texts), size, replace=False), step)

    def _batches(self, corpus: Corpus) -> Iterator[Batch]:
        order = np.argsort([len(text) for text in corpus.texts], kind="stable")
        for start in range(0, len(order), self.schedule.batch):
            yield self._batch(corpus, order[start : start + self.schedule.batch], None)

    def _batch(self, corpus: Corpus, rows: Sequence[int] | NDArray[np.int64], step: int | None) -> Batch:
        import torch

        places = [int(row) for row in rows]
        texts = [corpus.texts[row] for row in places]
        if step is not None and self.schedule.augment > 0:
            rng = np.random.default_rng([self.schedule.seed, 3, step])
            texts = [augment(text, rng, share=self.schedule.augment) for text in texts]
        if step is not None and self.schedule.typos > 0:
            rng = np.random.default_rng([self.schedule.seed, 4, step])
            texts = [with_typos(text, rng) if rng.random() < self.schedule.typos else text for text in texts]
        if step is not None and self.schedule.synonyms > 0:
            rng = np.random.default_rng([self.schedule.seed, 5, step])
            texts = [with_synonyms(text) if rng.random() < self.schedule.synonyms else text for text in texts]
        ids, mask = padded_tensors([tokens.ids for tokens in self._tokenizer.encode_batch(texts)])
        truth, teacher = torch.from_numpy(corpus.truth[places]), torch.from_numpy(corpus.teacher[places])
        meant = None if corpus.meant is None else torch.from_numpy(corpus.meant[places])
        return Batch(ids=ids, mask=mask, truth=truth, teacher=teacher, meant=meant)

    def _trainable(self) -> dict[str, Any]:
        names = {name for name, weight in self.network.named_parameters() if weight.requires_grad}
        return {name: value for name, value in self.network.state_dict().items() if name in names}

    def _save(self, step: int) -> None:
        import torch

        state = {
            "step": step,
            "weights": self._trainable(),
            "optimiser": self._optimiser.state_dict(),
            "random": torch.get_rng_state(),
            "best": self._best,
        }
        with written_whole(self._checkpoint) as temporary:
            torch.save(state, temporary)

    def _resume(self) -> int:
        """Restores the checkpoint, if there is one, and returns the next step."""
        import torch

        if not self._checkpoint.exists():
            return 0
        try:
            state = torch.load(self._checkpoint, weights_only=True)
        except (OSError, RuntimeError, EOFError, ValueError) as error:
            raise DataError(
                f"checkpoint {self._checkpoint} cannot be read ({error}); delete it to start over"
            ) from error
        self.network.load_state_dict(state["weights"], strict=False)
        self._optimiser.load_state_dict(state["optimiser"])
        torch.set_rng_state(state["random"])
        self._best = state["best"]
        logger.info("training.resumed", extra={"step": state["step"]})
        return int(state["step"])


def _by_length(texts: Sequence[str], batch: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """A random order of the rows in which those of a batch are about as long: padding is what batches would cost.

    Rows are shuffled first, then sorted within each 16 batches, whose order is shuffled again; a last batch that is
    not full stays the last.
    """
    order, lengths = rng.permutation(len(texts)), np.array([len(text) for text in texts])
    parts = []
    for start in range(0, len(order), _POOL * batch):
        pool = order[start : start + _POOL * batch]
        pool = pool[np.argsort(lengths[pool], kind="stable")]
        full = len(pool) // batch
        parts += [pool[: full * batch].reshape(full, batch)[rng.permutation(full)].ravel(), pool[full * batch :]]
    return np.concatenate(parts)
