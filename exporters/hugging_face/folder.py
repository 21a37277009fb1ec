"""A trained classifier as a folder that transformers loads: configuration, weights, tokenizer, labels, model card."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perennial.continual.atomic_file import folder_written_whole
from perennial.continual.errors import ConfigurationError, ExportFailed
from perennial.continual.learning.card import ModelCard, read_card
from perennial.continual.learning.encoder_folder import read_facts
from perennial.continual.learning.encoder_model import load_encoder
from perennial.continual.learning.lexical import WEIGHT
from perennial.continual.learning.trained import HEAD_FILE
from perennial.exporters.hugging_face.model_card import Layout, model_card
from perennial.exporters.hugging_face.own_source import source_without_imports
from perennial.exporters.text_classification.tokens import TextTokenizer, padded
from perennial.exporters.trained import HeadKind, TrainedModel

if TYPE_CHECKING:
    from perennial.exporters.hugging_face.given.perennial_classifier import PerennialForSequenceClassification

__all__ = ["WrittenFolder", "write_folder"]

_TASKS = ("opinion", "text_classification")
_CODE = ("perennial_classifier", "perennial_pipeline")
_WORDS_FILE, _WEIGHTS_FILE, _TOKENIZER_FILE = "words.safetensors", "model.safetensors", "tokenizer.json"
_CLOSE = 1e-3  # of the logits' own size: sums in another order, and nothing else
_ASKED = ("a", "one two three", "Why was my card declined again, and when is the next one?")


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenFolder:
    """What was written: which layout, and the names of the files."""

    folder: Path
    layout: Layout
    files: tuple[str, ...]


def write_folder(trained: Path, out: Path, *, name: str) -> WrittenFolder:
    """Write the classifier in a trained folder, or in a bundle, as an ordinary folder; it appears whole.

    A classifier that was taken over is written as it came: transformers loads it without any code, or ONNX Runtime its
    file. A head that was learnt here has no class in transformers, so the folder brings the code of one, and none of
    it needs Perennial. Before it appears the class must give the logits of the model that the version was made from.

    Args:
        trained: with a card; nothing in it is changed.
        out: a folder that does not exist, or is empty.
        name: the model and its version, for the model card.

    Raises:
        ConfigurationError: the model is no classifier of texts, or something lies at `out`, or `out` is where one is.
        DataError: the trained folder cannot be read.
        ExportFailed: the class gives other logits.
    """
    card = read_card(trained)
    if card.task not in _TASKS:
        raise ConfigurationError(
            f"{name} is of the task {card.task}; a folder for transformers is written of {' and '.join(_TASKS)}"
        )
    out = out.resolve()  # a link to an empty folder is filled there
    if out == Path.cwd():
        raise ConfigurationError(f"{out} is the folder that you are in; name one that is to be made")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigurationError(f"{out} exists and is not empty; name a folder that is to be made")
    model = TrainedModel.load(trained)
    layout = {HeadKind.CLASSIFIER: Layout.PLAIN, HeadKind.FOREIGN: Layout.ONNX}.get(model.kind, Layout.CODE)
    with folder_written_whole(out) as staging:
        if layout is Layout.CODE:
            _write_with_code(model, card, staging)
        else:
            shutil.copytree(model.encoder, staging, copy_function=shutil.copyfile, dirs_exist_ok=True)
        words = (staging / _WORDS_FILE).is_file()
        told = model_card(card, name=name, layout=layout, words=words, max_length=model.max_length)
        (staging / "README.md").write_text(told, encoding="utf-8")
        files = tuple(sorted(path.relative_to(staging).as_posix() for path in staging.rglob("*") if path.is_file()))
    return WrittenFolder(folder=out, layout=layout, files=files)


def _write_with_code(model: TrainedModel, card: ModelCard, folder: Path) -> None:
    from safetensors.numpy import save_file

    from perennial.exporters.hugging_face import given
    from perennial.exporters.hugging_face.given import perennial_parts

    for name in _CODE:
        shutil.copyfile(Path(str(given.__file__)).parent / f"{name}.py", folder / f"{name}.py")
    parts = source_without_imports(perennial_parts)
    (folder / "perennial_parts.py").write_text(parts, encoding="utf-8")
    words = _write_words(model, folder / _WORDS_FILE)
    _write_tokenizer(model, folder)
    made = _made(model, card, folder, words=words)
    made.config.save_pretrained(folder)
    tensors = {name: tensor.detach().numpy().copy() for name, tensor in made.state_dict().items()}
    save_file(tensors, folder / _WEIGHTS_FILE, metadata={"format": "pt"})


def _made(model: TrainedModel, card: ModelCard, folder: Path, *, words: bool) -> "PerennialForSequenceClassification":
    """The model of the folder's own class, after it has answered like the version's."""
    import torch

    from perennial.exporters.hugging_face.given.perennial_classifier import (
        PerennialConfig,
        PerennialForSequenceClassification,
    )

    encoder, facts = load_encoder(model.encoder), read_facts(model.encoder)
    config = PerennialConfig(
        encoder=encoder.config.to_diff_dict() | {"model_type": encoder.config.model_type},
        pooling=facts.pooling.value,
        encoder_alone=type(encoder).__name__.endswith("EncoderModel"),
        head={name: list(tensor.shape) for name, tensor in model.head.items()},
        words=words,
        folds_width=card.folds_width,
        id2label=dict(enumerate(model.labels)),
        label2id={label: place for place, label in enumerate(model.labels)},
        problem_type="single_label_classification",
        architectures=[PerennialForSequenceClassification.__name__],
        auto_map={
            "AutoConfig": f"{_CODE[0]}.{PerennialConfig.__name__}",
            "AutoModelForSequenceClassification": f"{_CODE[0]}.{PerennialForSequenceClassification.__name__}",
        },
        custom_pipelines={
            "text-classification": {
                "impl": f"{_CODE[1]}.PerennialPipeline",
                "pt": ["AutoModelForSequenceClassification"],
                "type": "text",
            }
        },
        dtype="float32",
    )
    made = PerennialForSequenceClassification(config)
    made.train(False)
    weights = {f"encoder.{name}": tensor for name, tensor in encoder.state_dict().items()}
    weights |= {f"head.{name}": torch.from_numpy(tensor.copy()) for name, tensor in model.head.items()}
    made.load_state_dict(weights)
    rows = padded(TextTokenizer(folder / _TOKENIZER_FILE).encode(_ASKED), width=1)
    ids, mask = (torch.from_numpy(rows[name]) for name in ("input_ids", "attention_mask"))
    with torch.inference_mode():
        expected, seen = model.module()(ids, mask)[0], made(ids, mask).logits
    apart, size = float((seen - expected).abs().max()), max(1.0, float(expected.abs().max()))
    if not apart <= _CLOSE * size:
        raise ExportFailed(
            f"the class for transformers gives other logits than {model.folder}, by {apart:.3g} of up to {size:.3g} "
            f"(limit {_CLOSE:g} of them); nothing was written. Please report it with the encoder's config.json"
        )
    return made


def _write_words(model: TrainedModel, target: Path) -> bool:
    """The part of the head that reads words, as `WordScores` reads it; whether there is one."""
    from safetensors import safe_open
    from safetensors.numpy import save_file

    with safe_open(model.folder / HEAD_FILE, framework="np") as file:
        names = set(file.keys())
        tensors = {name: file.get_tensor(name) for name in names - set(model.head)}
    if WEIGHT not in names:
        return False
    save_file(tensors, target)
    return True


def _write_tokenizer(model: TrainedModel, folder: Path) -> None:
    """The served tokenizer, with its limit, its prompt and the side that it cuts, under what transformers calls it."""
    from tokenizers import Tokenizer

    model.write_tokenizer(folder / _TOKENIZER_FILE)
    read = Tokenizer.from_file(str(folder / _TOKENIZER_FILE))
    said: Mapping[str, Any] = json.loads((model.encoder / "config.json").read_bytes())
    padding = said.get("pad_token_id")
    word = read.id_to_token(padding if isinstance(padding, int) and padding >= 0 else 0)
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": model.max_length,
        "model_input_names": ["input_ids", "attention_mask"],
        "padding_side": "right",
        "truncation_side": (read.truncation or {}).get("direction", "right"),
        "pad_token": word,
        "clean_up_tokenization_spaces": False,
    }
    (folder / "tokenizer_config.json").write_text(
        json.dumps(settings, indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
    )
