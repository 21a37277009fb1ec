"""From labelled rows to a tuned encoder and its head, in minutes: the slow learner's job."""

import hashlib
import json
import logging
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from perennial.continual.atomic_file import folder_written_whole, write_atomically
from perennial.continual.errors import ConfigurationError, DataError, TrainingFailed
from perennial.continual.learning.calibration import fit_temperature, log_loss, places_of
from perennial.continual.learning.card import ENCODER_INSIDE, ModelCard, drop_card
from perennial.continual.learning.closed_form import FastSettings
from perennial.continual.learning.context import Context
from perennial.continual.learning.encoder import fingerprint, load_tokenizer, resolve_encoder
from perennial.continual.learning.encoder_folder import copy_beside_weights
from perennial.continual.learning.fast import fit_fast, write_fast
from perennial.continual.learning.network import SCALE, Tuned, make_network
from perennial.continual.learning.network_head import FUSED, NETWORK_HEADS, NetworkHead
from perennial.continual.learning.open_set import OPEN_SET_FILE, fit_open_set
from perennial.continual.learning.pretraining import Pretraining, pretrain
from perennial.continual.learning.rows import read_rows
from perennial.continual.learning.spec import JobSpec
from perennial.continual.learning.strategies import make_strategy
from perennial.continual.learning.teacher import Teacher
from perennial.continual.learning.texts import Texts
from perennial.continual.learning.trained import KERNEL_HEADS, PROOF_FILE, STATISTICS_FILE
from perennial.continual.learning.trainer import Corpus, Schedule, Trainer
from perennial.continual.learning.word_sums import WordSums, fused
from perennial.continual.preparation import clean, deduplicate, fold_width, row_hash
from perennial.continual.records import Example

__all__ = ["SlowSettings", "train_slow"]

logger = logging.getLogger(__name__)

_CHECKPOINT = "checkpoint.pt"
_JOB = "job.sha256"
_PRETRAINED = "pretrained"


@dataclass(frozen=True, slots=True, kw_only=True)
class SlowSettings:
    """The `params` of a fine-tuning job.

    >>> SlowSettings.of({"strategy": "der++", "epochs": 1}).schedule.epochs
    1
    """

    strategy: str = "replay"
    strategy_settings: dict[str, Any] = field(default_factory=dict)
    head: str = "kernel_lda"  # what answers afterwards: a closed form, or the network's own: see NETWORK_HEADS
    head_settings: dict[str, Any] = field(default_factory=dict)
    balanced: bool = False  # weigh classes by 1 / sqrt(rows)
    pretraining: dict[str, Any] = field(default_factory=dict)  # of `Pretraining`, when the job has unlabelled texts
    schedule: Schedule = field(default_factory=Schedule)
    tuned: Tuned = field(default_factory=Tuned)

    @classmethod
    def of(cls, params: dict[str, Any], *, seed: int = 0) -> "SlowSettings":
        """Settings out of a spec; the names of `Schedule` and `Tuned` stand beside the others.

        Raises:
            ConfigurationError: a name or a value is not known.
        """
        known = {part: {entry.name for entry in fields(part)} for part in (cls, Schedule, Tuned)}
        own = known[cls] - {"schedule", "tuned"}
        unknown = sorted(params.keys() - own - known[Schedule] - known[Tuned])
        if unknown:
            allowed = sorted(own | known[Schedule] | known[Tuned])
            raise ConfigurationError(f"params {unknown} are not known; known: {allowed}")
        if params.get("head", "kernel_lda") not in (heads := {*KERNEL_HEADS, *NETWORK_HEADS}):
            raise ConfigurationError(f"head {params['head']!r} must be one of {sorted(heads)}")
        picked = {part: {name: params[name] for name in names if name in params} for part, names in known.items()}
        schedule = Schedule(**{"seed": seed} | picked[Schedule])
        if schedule.epochs < 1 or schedule.batch < 1 or schedule.checkpoint_steps < 1:
            raise ConfigurationError(f"epochs, batch and checkpoint_steps must be at least 1: {schedule}")
        return cls(**picked[cls], schedule=schedule, tuned=Tuned(**picked[Tuned]))


def train_slow(spec: JobSpec, context: Context) -> ModelCard:
    """Tunes the encoder on the spec's rows by the named strategy and writes the trained folder, `model.json` last.

    A job that was stopped goes on from its last checkpoint when it is run again with the same spec and rows.
    Afterwards the head is a kernel head built on the tuned encoder from the fresh and the replay rows (old rows that
    are in neither can't be embedded again), or the network's own linear head.

    Raises:
        DataError, ConfigurationError: the spec or its files are wrong.
        TrainingFailed: there are no rows, fewer than two classes, or the loss diverged.
        Cancelled: the job was told to stop, after a checkpoint.
    """
    settings = SlowSettings.of(spec.params, seed=spec.seed)
    fresh = deduplicate(read_rows(spec.examples)).examples
    replay = _without(deduplicate(read_rows(spec.replay)).examples, fresh)
    spec = _pretrained(spec, settings, context)
    texts = Texts(spec, context)
    teacher = Teacher.of(spec, texts)
    labels = tuple(sorted({row.label for row in (*fresh, *replay)} | set(teacher.labels)))
    if not fresh or len(labels) < 2:
        raise TrainingFailed(f"{len(fresh)} fresh rows of {len(labels)} classes; tuning needs rows and two classes")
    known = [row for row in deduplicate(read_rows(spec.holdout)).examples if row.label in labels]
    remembered = teacher.corpus(replay, labels, remembered=True)
    corpora = (teacher.corpus(fresh, labels), remembered, teacher.corpus(known, labels))
    _begin(spec, [*fresh, *replay])
    network, trainer = _trainer(spec, settings, texts, [*fresh, *replay], labels)
    figures = trainer.run(*corpora, context)
    _save_encoder(network, texts.folder, spec.out / ENCODER_INSIDE)
    teacher.remember(spec.out, replay, remembered, labels)
    tuned = replace(
        spec, encoder=str(spec.out / ENCODER_INSIDE), previous=None, params=settings.head_settings, erase=None
    )
    if settings.head in NETWORK_HEADS:
        words = _words(spec, settings, [*replay, *fresh]) if settings.head == FUSED else None
        card = _own_head(tuned, network, labels, corpora[2], words)
    else:
        model = fit_fast(tuned, context, head=settings.head)
        write_fast(spec.out, model)
        card = model.card
    used = {"strategy": settings.strategy} | asdict(settings.schedule) | asdict(settings.tuned)
    card = replace(
        card,
        learner=spec.learner.value,
        encoder=ENCODER_INSIDE,
        metrics=card.metrics | figures,
        settings=card.settings | used,
        data={"rows": len(fresh), "replay_rows": len(replay), "classes": len(card.labels)},
    )
    card.write(spec.out)
    (spec.out / _CHECKPOINT).unlink(missing_ok=True)
    shutil.rmtree(spec.out / _PRETRAINED, ignore_errors=True)  # the tuned encoder came out of it
    logger.info(
        "training.slow_model_trained", extra={"rows": len(fresh), "replay_rows": len(replay), "out": str(spec.out)}
    )
    return card


def _pretrained(spec: JobSpec, settings: SlowSettings, context: Context) -> JobSpec:
    """The same job on an encoder that has read the unlabelled texts, when there are some."""
    if spec.unlabelled is None:
        return spec
    try:
        chosen = Pretraining(**{"seed": spec.seed} | settings.pretraining)
        lines = [clean(fold_width(line)) for line in spec.unlabelled.read_text(encoding="utf-8").splitlines()]
    except TypeError as error:
        raise ConfigurationError(f"pretraining {settings.pretraining}: {error}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"unlabelled texts {spec.unlabelled} cannot be read ({error}); give UTF-8, a line each"
        ) from error
    texts = list(dict.fromkeys(line for line in lines if line))
    source, out = resolve_encoder(spec.encoder), spec.out / _PRETRAINED
    folder = pretrain(source, texts, out, chosen, max_length=spec.max_length, context=context)
    return replace(spec, encoder=str(folder))


def _without(rows: Sequence[Example], others: Sequence[Example]) -> tuple[Example, ...]:
    """The rows whose text is not among the others."""
    taken = {row_hash(row.text) for row in others}
    return tuple(row for row in rows if row_hash(row.text) not in taken)


def _begin(spec: JobSpec, rows: Sequence[Example]) -> None:
    """Makes `out` ready: no result in it, and no checkpoint of another job."""
    spec.out.mkdir(parents=True, exist_ok=True)
    drop_card(spec.out)
    encoder = fingerprint(resolve_encoder(spec.encoder))
    settings = json.dumps([encoder, str(spec.previous), spec.seed, spec.max_length, spec.params], sort_keys=True)
    seen = json.dumps([(row.text, row.label) for row in rows])
    identity = hashlib.sha256(f"{settings}{seen}".encode()).hexdigest()
    mark = spec.out / _JOB
    if mark.is_file() and mark.read_text(encoding="ascii") == identity:
        return
    (spec.out / _CHECKPOINT).unlink(missing_ok=True)
    write_atomically(mark, identity)


def _trainer(
    spec: JobSpec, settings: SlowSettings, texts: Texts, rows: Sequence[Example], labels: Sequence[str]
) -> tuple[Any, Trainer]:
    import torch

    if spec.threads:
        torch.set_num_threads(spec.threads)
    torch.manual_seed(spec.seed)  # the LoRA matrices begin at random
    truth = places_of([row.label for row in rows], labels)
    network = make_network(texts.folder, _class_means(texts([row.text for row in rows]), truth, labels), settings.tuned)
    counts = np.bincount(truth, minlength=len(labels))
    weights = 1.0 / np.sqrt(np.maximum(counts, 1))
    trainer = Trainer(
        network=network,
        tokenizer=load_tokenizer(texts.folder, spec.max_length),
        strategy=make_strategy(settings.strategy, settings.strategy_settings),
        schedule=settings.schedule,
        class_weights=(weights / weights.mean()).astype(np.float32) if settings.balanced else None,
        checkpoint=spec.out / _CHECKPOINT,
    )
    return network, trainer


def _words(spec: JobSpec, settings: SlowSettings, rows: Sequence[Example]) -> WordSums:
    """Sums of the words of these rows, and of all that the previous model's have where they are a ridge's."""
    words = WordSums.carried(spec.previous) or WordSums(FastSettings.of(settings.head_settings).words_and_letters)
    words.add(rows)
    words.remove(deduplicate(read_rows(spec.erase)).examples)
    return words


def _class_means(X: NDArray[np.float32], truth: NDArray[np.intp], labels: Sequence[str]) -> NDArray[np.float32]:
    """Unit mean embedding of each class, (C, d); zeros for a class without rows."""
    means = np.zeros((len(labels), X.shape[1]), dtype=np.float32)
    np.add.at(means, truth, X)
    lengths = np.linalg.norm(means, axis=1, keepdims=True)
    return np.asarray(means / np.maximum(lengths, 1e-9), dtype=np.float32)


def _save_encoder(network: Any, source: Path, folder: Path) -> None:
    """A Hugging Face folder of the tuned encoder, replaced as a whole."""
    with folder_written_whole(folder) as staging:
        network.merged().save_pretrained(staging, safe_serialization=True)
        copy_beside_weights(source, staging)


def _own_head(
    spec: JobSpec, network: Any, labels: tuple[str, ...], held_out: Corpus, words: WordSums | None
) -> ModelCard:
    """Writes the network's own head, beside the words where they are asked for, and returns its card.

    What the words count for, and the temperature, are chosen on the held-out rows.
    """
    head = NetworkHead(
        labels=labels, weight=SCALE * network.head.weight.detach().numpy(), bias=network.head.bias.detach().numpy()
    )
    texts = Texts(spec, Context())
    X, truth = texts(held_out.texts), held_out.truth.astype(np.intp)
    if words is not None:
        head = fused(head, words, X, held_out.texts, truth)
    logits = head.logits(X, held_out.texts)
    temperature = fit_temperature(logits, truth)
    head.cooled(temperature).write(spec.out)
    for stale in (STATISTICS_FILE, PROOF_FILE, OPEN_SET_FILE):
        (spec.out / stale).unlink(missing_ok=True)
    if (open_set := fit_open_set(logits / temperature, X, None)) is not None:
        open_set.write(spec.out)
    metrics = {}
    if len(truth):
        accuracy = float((logits.argmax(axis=1) == truth).mean())
        metrics = {"holdout_accuracy": accuracy, "holdout_log_loss": log_loss(logits, truth, temperature)}
    return ModelCard(
        learner=spec.learner.value,
        encoder=ENCODER_INSIDE,
        encoder_fingerprint=texts.fingerprint,
        labels=labels,
        head=head.name,
        temperature=temperature,
        max_length=spec.max_length,
        metrics=metrics | {"holdout_rows": float(len(truth))},
        parent_version=spec.parent_version,
    )
