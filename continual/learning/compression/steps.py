"""A trained model made smaller in steps, each taught by the answers of the model that it comes from.

Source: layers that stay as in Sanh et al., "DistilBERT", 2019; what is taught see `Lesson`.
"""

import json
import logging
import math
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from perennial.continual.atomic_file import write_atomically
from perennial.continual.errors import ConfigurationError, DataError
from perennial.continual.learning.answering import answer, embedded
from perennial.continual.learning.calibration import fit_temperature, places_of
from perennial.continual.learning.card import COMPRESSED, ENCODER_INSIDE, ModelCard, is_finished, read_card
from perennial.continual.learning.compression.lesson import Lesson
from perennial.continual.learning.compression.shrink import shrink
from perennial.continual.learning.compression.vocabulary import cut_vocabulary
from perennial.continual.learning.context import Context
from perennial.continual.learning.encoder import Encoder, fingerprint, load_tokenizer, resolve_encoder
from perennial.continual.learning.encoder_folder import copy_beside_weights, read_facts
from perennial.continual.learning.network import SCALE, Tuned, make_network
from perennial.continual.learning.network_head import LINEAR, NetworkHead
from perennial.continual.learning.open_set import OPEN_SET_FILE, OpenSet, fit_open_set
from perennial.continual.learning.rows import read_rows
from perennial.continual.learning.trainer import Corpus, Schedule, Trainer
from perennial.continual.preparation import deduplicate, row_hash

__all__ = ["CompressionSpec", "Step", "StepMade", "compress", "usual_steps"]

logger = logging.getLogger(__name__)

_SHARE = 10  # one row in so many chooses the epoch and the temperature, and teaches nothing
_CHECKPOINT, _DONE = "checkpoint.pt", "steps.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step down from the model as it is: layers and inner neurons that stay, and whether the vocabulary is cut."""

    name: str
    layers: int | None = None
    width: int | None = None
    vocabulary: bool = True

    @property
    def is_taught(self) -> bool:
        """Whether what stays has to learn; a cut vocabulary alone does not."""
        return self.layers is not None or self.width is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class CompressionSpec:
    """What is made smaller, by which rows, in which steps; a later step begins where the last taught one ended."""

    source: Path  # a trained folder or a bundle
    rows: Path  # training rows; held-out ones must not be among them
    out: Path
    steps: tuple[Step, ...]
    cache: Path
    threads: int = 2
    seed: int = 0
    epochs: int = 8
    schedule: dict[str, Any] = field(default_factory=dict)  # other fields of `Schedule`

    def write(self, path: Path) -> None:
        """Write it where a process reads it."""
        record = {name: str(value) if isinstance(value, Path) else value for name, value in asdict(self).items()}
        write_atomically(path, json.dumps(record, indent=1))

    @classmethod
    def read(cls, path: Path) -> "CompressionSpec":
        """The spec that `write` left."""
        record = json.loads(path.read_text(encoding="utf-8"))
        paths = {name: Path(record[name]) for name in ("source", "rows", "out", "cache")}
        return cls(**{**record, **paths, "steps": tuple(Step(**step) for step in record["steps"])})


@dataclass(frozen=True, slots=True, kw_only=True)
class StepMade:
    """A step's trained folder, and its accuracy on the rows that choose beside the source's."""

    name: str
    folder: str
    accuracy: float
    source_accuracy: float
    tokens: int


def usual_steps(layers: int, width: int) -> tuple[Step, ...]:
    """The vocabulary, then two thirds of the layers, half of them, and those with fewer neurons.

    >>> for step in usual_steps(6, 1536):
    ...     print(step.name, step.layers, step.width)
    vocabulary None None
    4 layers 4 None
    3 layers 3 None
    3 layers, three quarters as wide 3 1152
    3 layers, half as wide 3 768
    """
    some, half = math.ceil(2 * layers / 3), math.ceil(layers / 2)
    steps = [Step(name="vocabulary")]
    steps += [Step(name=_of_layers(keep), layers=keep) for keep in dict.fromkeys((some, half)) if keep < layers]
    for told, kept in (("three quarters", 3 * width // 4), ("half", width // 2)):
        if kept:
            steps.append(Step(name=f"{_of_layers(half)}, {told} as wide", layers=half, width=kept))
    return tuple(steps)


def _of_layers(count: int) -> str:
    return "1 layer" if count == 1 else f"{count} layers"


def compress(spec: CompressionSpec, context: Context) -> tuple[StepMade, ...]:
    """Take the steps in turn and leave a trained folder of each; a step that was finished before is not taken again.

    The student's head is linear, whatever the source's was: it has no sums, and its next training begins from rows.
    A later step that the encoder does not allow is left out.

    Raises:
        DataError: there are too few rows, or the source is no finished training.
        ConfigurationError: the encoder does not allow the first step.
    """
    card = read_card(spec.source)
    rows = deduplicate(read_rows(spec.rows)).examples
    known = [row for row in rows if row.label in card.labels]
    choosing = [row for row in known if row_hash(row.text) % _SHARE == 0]
    teaching = [row for row in known if row_hash(row.text) % _SHARE]
    if len(teaching) < len(card.labels) or not choosing:
        raise DataError(f"{len(known)} rows of {len(card.labels)} classes are too few to teach a smaller model by")
    texts = [row.text for row in (*teaching, *choosing)]
    labels, logits = answer(spec.source, texts, cache=spec.cache, threads=spec.threads, proved=True)
    truth = places_of([row.label for row in (*teaching, *choosing)], labels).astype(np.int64)
    X = embedded(spec.source, texts, cache=spec.cache, threads=spec.threads)
    corpus = Corpus(texts=tuple(texts), truth=truth, teacher=logits.astype(np.float32), meant=X)
    parts = _part(corpus, slice(0, len(teaching))), _part(corpus, slice(len(teaching), None))
    maker = _Maker(spec, card, parts, context)
    right = float((logits[len(teaching) :].argmax(axis=1) == truth[len(teaching) :]).mean())
    made: list[StepMade] = []
    for step in spec.steps:
        try:
            made.append(maker.made(step, right))
        except ConfigurationError as error:
            if not made:
                raise
            logger.info("compression.step_left_out", extra={"step": step.name, "cause": str(error)})
            continue
        write_atomically(spec.out / _DONE, json.dumps([asdict(each) for each in made], indent=1))
        context.report("compress", len(made), len(spec.steps))
    return tuple(made)


def _part(corpus: Corpus, rows: slice) -> Corpus:
    meant = None if corpus.meant is None else corpus.meant[rows]
    return Corpus(texts=corpus.texts[rows], truth=corpus.truth[rows], teacher=corpus.teacher[rows], meant=meant)


class _Maker:
    """Makes the students of one source, the smaller ones out of the larger."""

    def __init__(self, spec: CompressionSpec, card: ModelCard, parts: tuple[Corpus, Corpus], context: Context) -> None:
        self.spec, self.card, self.context = spec, card, context
        self.teaching, self.choosing = parts
        self._encoder = resolve_encoder(card.encoder_source(spec.source))
        linear = card.head == LINEAR
        self._head = NetworkHead.read(spec.source, card.labels) if linear else None  # then of the last student
        self._is_cut = False

    def made(self, step: Step, right: float) -> StepMade:
        """The step's trained folder."""
        folder = self.spec.out / step.name.replace(" ", "-").replace(",", "")
        if not is_finished(folder):
            folder.mkdir(parents=True, exist_ok=True)
            encoder = self._started(step, folder)
            self._taught(encoder, folder, smaller=step.is_taught)
        self._is_cut = self._is_cut or step.vocabulary
        self._encoder = folder / ENCODER_INSIDE
        self._head = NetworkHead.read(folder, self.card.labels)
        _, logits = answer(folder, self.choosing.texts, cache=self.spec.cache, threads=self.spec.threads)
        return StepMade(
            name=step.name,
            folder=str(folder),
            accuracy=float((logits.argmax(axis=1) == self.choosing.truth).mean()),
            source_accuracy=right,
            tokens=read_facts(self._encoder).ids,
        )

    def _started(self, step: Step, folder: Path) -> Path:
        """The encoder that the step begins with."""
        source = self._encoder
        if step.vocabulary and not self._is_cut:
            try:
                cut_vocabulary(source, folder / "cut", self.teaching.texts, max_length=self.card.max_length)
                source = folder / "cut"
            except ConfigurationError as error:
                logger.info("compression.vocabulary_kept", extra={"cause": str(error)})
        if not step.is_taught:
            return source
        smaller = folder / "start"
        texts, length = self.teaching.texts, self.card.max_length
        shrink(source, smaller, texts, max_length=length, layers=step.layers, width=step.width)
        return smaller

    def _taught(self, encoder: Path, folder: Path, *, smaller: bool) -> None:
        """Teach it by the source's answers where it must learn, and write encoder, head and card."""
        import torch

        torch.set_num_threads(self.spec.threads)
        torch.manual_seed(self.spec.seed)
        network = make_network(encoder, self._means(encoder), Tuned())
        if self._head is not None:
            with torch.no_grad():
                network.head.weight.copy_(torch.from_numpy(self._head.weight / SCALE))
                network.head.bias.copy_(torch.from_numpy(self._head.bias))
        if smaller or self._head is None:
            self._trainer(network, encoder, folder).run(
                self.teaching, _part(self.teaching, slice(0, 0)), self.choosing, self.context
            )
        inside = folder / ENCODER_INSIDE
        shutil.rmtree(inside, ignore_errors=True)
        network.merged().save_pretrained(inside, safe_serialization=True)
        copy_beside_weights(encoder, inside)
        self._write(network, folder)
        for left in ("cut", "start"):
            shutil.rmtree(folder / left, ignore_errors=True)
        (folder / _CHECKPOINT).unlink(missing_ok=True)

    def _trainer(self, network: Any, encoder: Path, folder: Path) -> Trainer:
        usual = {"seed": self.spec.seed, "epochs": self.spec.epochs, "augment": 0.05}
        return Trainer(
            network=network,
            tokenizer=load_tokenizer(encoder, self.card.max_length),
            strategy=Lesson(),
            schedule=Schedule(**usual | self.spec.schedule),
            class_weights=None,
            checkpoint=folder / _CHECKPOINT,
        )

    def _write(self, network: Any, folder: Path) -> None:
        inside = folder / ENCODER_INSIDE
        weight, bias = (part.detach().numpy() for part in (network.head.weight, network.head.bias))
        head = NetworkHead(labels=self.card.labels, weight=SCALE * weight, bias=bias)
        X = self._embedded(inside, self.choosing.texts)
        logits = head.logits(X, self.choosing.texts)
        temperature = fit_temperature(logits, self.choosing.truth.astype(np.intp))
        head.cooled(temperature).write(folder)
        self._limit(logits / temperature, X, folder)
        replace(
            self.card,
            learner="finetune",
            encoder=ENCODER_INSIDE,
            encoder_fingerprint=fingerprint(inside),
            head=head.name,
            temperature=temperature,
            metrics={},
            settings={COMPRESSED: True},
            unknown={},
        ).write(folder)

    def _limit(self, logits: NDArray[np.float32], X: NDArray[np.float32], folder: Path) -> None:
        """Write which texts are of none of the classes, where the source tells that, by the rows that choose."""
        (folder / OPEN_SET_FILE).unlink(missing_ok=True)
        if (source := OpenSet.read(self.spec.source)) is None:
            return
        if (own := fit_open_set(logits, X, None, source.false_refusals)) is not None:
            own.write(folder)

    def _means(self, encoder: Path) -> NDArray[np.float32]:
        """Unit mean embedding of each class, where a head begins that no student had before."""
        classes = len(self.card.labels)
        if self._head is not None:
            return self._head.weight / np.float32(SCALE)
        X = self._embedded(encoder, self.teaching.texts)
        means = np.zeros((classes, X.shape[1]), dtype=np.float32)
        np.add.at(means, self.teaching.truth, X)
        return np.asarray(means / np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-9), dtype=np.float32)

    def _embedded(self, encoder: Path, texts: Sequence[str]) -> NDArray[np.float32]:
        return Encoder.load(str(encoder), max_length=self.card.max_length, threads=self.spec.threads).embed(texts)
