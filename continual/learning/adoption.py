"""A classifier that was fine-tuned elsewhere becomes a trained model of ours: a folder or an ONNX file. No torch."""

import hashlib
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from perennial.continual.atomic_file import folder_written_whole
from perennial.continual.errors import ConfigurationError, DataError
from perennial.continual.learning.card import CLASSIFIER, ENCODER_INSIDE, FOREIGN, FOREIGN_INSIDE, ModelCard, drop_card
from perennial.continual.learning.classifier_weights import check_classifier_weights
from perennial.continual.learning.encoder import fingerprint
from perennial.continual.learning.encoder_folder import (
    load_tokenizer,
    read_tokenizer,
    tokenizer_length,
    usable_length,
)
from perennial.continual.learning.graph_parts import check_outputs, copy_graph, graph_parts
from perennial.continual.learning.names import LearnerName
from perennial.continual.learning.pooling import read_pooling, write_pooling
from perennial.continual.preparation import admit_label, clean

__all__ = ["FOREIGN_FILE", "Adoptable"]

_KIND = "ForSequenceClassification"
_KEPT = ("*.json", "*.txt", "*.safetensors", "*.model")  # no code, no pickle, no training state
_BESIDE_GRAPH = ("*.json", "*.txt")
_ONNX, FOREIGN_FILE = ".onnx", "model.onnx"
_PROBES, _LONGEST = 128, 48
_MOST_LABELS = 100_000
_LEAST_TOKENS = 8  # of a text; an export is drawn with more than a few


@dataclass(frozen=True, slots=True, kw_only=True)
class Adoptable:
    """A folder whose classifier gives one label for one text.

    >>> Adoptable(folder=Path("mine"), labels=("no", "yes"), max_length=64).labels
    ('no', 'yes')
    """

    folder: Path
    labels: tuple[str, ...]  # in logit order
    max_length: int
    graph: Path | None = None  # an ONNX file, where that is what there is
    source: str = ""  # the address that it was fetched from

    @property
    def came_from(self) -> str:
        """Where it is to be found again: its address, or its place on disk."""
        return self.source or str(self.graph or self.folder)

    @classmethod
    def read(cls, place: Path, *, max_length: int, source: str = "") -> "Adoptable":
        """What the configuration, the tokenizer and the weights say of a folder or an ONNX file; no model is loaded.

        `source` is where the place was fetched from, if it is not to stay.

        Raises:
            ConfigurationError: it holds no such classifier, or one for several labels or for numbers.
        """
        place = place.expanduser()
        place = place.parent.resolve() / place.name if place.suffix == _ONNX else place.resolve()
        folder, graph = (place.parent, place) if place.suffix == _ONNX else (place, _only_graph(place))
        if graph is not None:
            return cls._foreign(folder, graph, max_length, source)
        configuration = _configuration(folder)
        named = configuration.get("architectures")
        kinds = [str(kind) for kind in named] if isinstance(named, list) else []
        if not any(kind.endswith(_KIND) for kind in kinds):
            raise ConfigurationError(
                f"{folder} holds {kinds or 'no architecture'}; --model takes a fine-tuned ...{_KIND}. "
                "An encoder without a head is set as `encoder` and trained on --data"
            )
        _one_label(folder, configuration)
        labels = _labels(folder, configuration)
        fingerprint(folder)  # says what is missing of weights
        check_classifier_weights(folder, len(labels))
        length = usable_length(folder, max_length, least=_LEAST_TOKENS)
        load_tokenizer(folder, length)
        return cls(folder=folder, labels=labels, max_length=length, source=source)

    @classmethod
    def _foreign(cls, folder: Path, graph: Path, max_length: int, source: str) -> "Adoptable":
        if not graph.is_file():
            raise ConfigurationError(
                f"{graph} does not exist; --model takes an ONNX file with tokenizer.json beside it"
            )
        graph_parts(graph)  # says what is missing of weights
        configuration = _configuration(folder)
        _one_label(folder, configuration)
        labels = _labels(folder, configuration)
        check_outputs(graph, len(labels))
        known = bool(configuration.get("model_type")) and "vocab_size" in configuration
        bounded = usable_length if known else tokenizer_length
        length = bounded(folder, max_length, least=_LEAST_TOKENS)
        read_tokenizer(folder, length)
        return cls(folder=folder, labels=labels, max_length=length, graph=graph, source=source)

    def adopt(self, out: Path) -> ModelCard:
        """Copy the classifier into `out` as a trained model, its card last."""
        out.mkdir(parents=True, exist_ok=True)
        drop_card(out)
        inside = ENCODER_INSIDE if self.graph is None else FOREIGN_INSIDE
        with folder_written_whole(out / inside) as staging:
            for path in self._beside():
                shutil.copyfile(path, staging / path.name)
            if self.graph is not None:
                copy_graph(self.graph, staging / FOREIGN_FILE)
            write_pooling(staging, read_pooling(self.folder))
        card = ModelCard(
            learner=LearnerName.FINETUNE.value,  # the encoder was tuned, on rows that nobody here has seen
            encoder=inside,
            encoder_fingerprint=fingerprint(out / inside)
            if self.graph is None
            else _digest(out / inside / FOREIGN_FILE),
            labels=self.labels,
            head=CLASSIFIER if self.graph is None else FOREIGN,
            temperature=1.0,
            max_length=self.max_length,
            data={"rows": 0, "replay_rows": 0, "classes": len(self.labels)},
            settings={"adopted_from": self.came_from},
            cleaning=1,  # whoever tuned it may have read full width as it is
        )
        card.write(out)
        return card

    @property
    def identity(self) -> str:
        """A digest of all that the taken-over classifier will be made of, the limit of its texts included."""
        files = [*self._beside(), *([] if self.graph is None else [self.graph, *graph_parts(self.graph)])]
        parts = [self.max_length, self.labels, *((path.name, _digest(path)) for path in files)]
        return f"sha256:{hashlib.sha256(json.dumps(parts).encode()).hexdigest()}"

    def _beside(self) -> list[Path]:
        """The files that are copied beside a graph, or in place of one."""
        patterns = _KEPT if self.graph is None else _BESIDE_GRAPH
        return [path for pattern in patterns for path in sorted(self.folder.glob(pattern)) if path.is_file()]

    def probe_texts(self, *, seed: int = 0) -> list[str]:
        """Texts that are nobody's, to prove an engine with where there are no rows: labels, and tokens drawn by chance.

        The same for the same seed.
        """
        tokenizer = read_tokenizer(self.folder, self.max_length)
        special = {place for place, word in tokenizer.get_added_tokens_decoder().items() if word.special}
        words = sorted(set(tokenizer.get_vocab().values()) - special)
        rng = np.random.default_rng(seed)
        lengths = rng.integers(1, min(self.max_length, _LONGEST) + 1, size=_PROBES)
        drawn = [tokenizer.decode([words[place] for place in rng.integers(len(words), size=size)]) for size in lengths]
        named = [label.replace("_", " ") for label in self.labels[:_PROBES]]
        return [text for text in dict.fromkeys(clean(text) for text in (*named, *drawn)) if text]


def _only_graph(folder: Path) -> Path | None:
    """The ONNX file of a folder that has no weights for torch."""
    if any(folder.glob("*.safetensors")):
        return None
    graphs = sorted(folder.glob(f"*{_ONNX}"))
    if len(graphs) > 1:
        raise ConfigurationError(f"{folder} has {len(graphs)} ONNX files; name one: --model {graphs[0]}")
    return graphs[0] if graphs else None


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return f"sha256:{hashlib.file_digest(stream, 'sha256').hexdigest()}"


def _configuration(folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    if not path.is_file():
        raise ConfigurationError(
            f"{folder} has no config.json; --model takes a folder that save_pretrained wrote, or an ONNX file beside it"
        )
    try:
        configuration = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigurationError(f"{path} is not JSON ({error}); save the model with save_pretrained") from error
    if not isinstance(configuration, dict):
        raise ConfigurationError(f"{path} is {type(configuration).__name__}; save the model with save_pretrained")
    if configuration.get("auto_map"):
        raise ConfigurationError(
            f"{path} asks for code of its own (auto_map), which is never run; give a model that transformers knows"
        )
    return configuration


def _one_label(folder: Path, configuration: dict[str, Any]) -> None:
    kind = configuration.get("problem_type")
    if kind is not None and kind != "single_label_classification":
        answers = {"regression": "a number", "multi_label_classification": "several labels at once"}
        what = answers.get(str(kind), repr(kind))
        raise ConfigurationError(
            f"{folder} was trained for {kind}: its answer is {what}. Served is one label for one text "
            "(problem_type single_label_classification)"
        )
    if configuration.get("is_encoder_decoder"):
        raise ConfigurationError(
            f"{folder} holds {configuration.get('model_type')}, an encoder with a decoder; give a classifier on "
            "an encoder or a decoder alone"
        )


def _labels(folder: Path, configuration: dict[str, Any]) -> tuple[str, ...]:
    """The names of `id2label` in the order of their numbers."""
    names = configuration.get("id2label")
    count = len(names) if isinstance(names, dict) else configuration.get("num_labels", 2)  # transformers' own default
    if not isinstance(count, int) or count > _MOST_LABELS:
        raise ConfigurationError(f"{folder} has {str(count)[:40]} labels; it must be a number up to {_MOST_LABELS:,}")
    if count == 1:
        raise ConfigurationError(f"{folder} has one output: a number (regression). Served is one label of at least two")
    if names is None:
        names = {str(place): f"LABEL_{place}" for place in range(count)}
    try:
        placed = {int(place): _label(folder, name) for place, name in names.items()}
    except (AttributeError, TypeError, ValueError):
        placed = {}
    if sorted(placed) != list(range(len(placed))) or len(placed) < 2 or len(set(placed.values())) < len(placed):
        raise ConfigurationError(
            f"id2label of {folder / 'config.json'} is {str(names)[:120]}; it must give each output a name of its own"
        )
    return tuple(placed[place] for place in range(len(placed)))


def _label(folder: Path, name: object) -> str:
    """A label as every entrance lets it in, so that people can answer with it; numbers stand for their digits."""
    try:
        return admit_label(str(name) if isinstance(name, int | float) else name)
    except DataError as error:
        raise ConfigurationError(
            f"id2label of {folder / 'config.json'} has a name that no label may have: {error}"
        ) from error
