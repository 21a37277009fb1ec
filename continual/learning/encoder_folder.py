"""What an encoder's folder says of it without torch: its width, the length of its texts, its ids and its pooling."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from perennial.continual.errors import ConfigurationError
from perennial.continual.images.preprocessing import is_image_encoder
from perennial.continual.learning.pooling import Pooling, read_pooling, write_pooling
from perennial.continual.learning.prompt import add_prompt, read_prompt, write_prompt

__all__ = [
    "EncoderFacts",
    "copy_beside_weights",
    "hidden_size",
    "load_tokenizer",
    "read_facts",
    "read_tokenizer",
    "tokenizer_length",
    "usable_length",
]

_ENDLESS = 1e9  # what tokenizers without a limit say lies beyond, up to infinity
_SHORTEST = 3  # tokens: one, and the tokenizer's frame around it
_WIDTHS = ("hidden_size", "dim", "d_model", "n_embd")  # what configurations call d
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt")
_TABLES = ("max_position_embeddings", "n_positions")
_PLAIN = frozenset(
    {"bert", "distilbert", "albert", "electra", "deberta-v2", "modernbert", "nomic_bert", "gpt2", "qwen2"}
)
_AFTER_PADDING = frozenset({"roberta", "xlm-roberta", "camembert"})  # positions begin behind the padding id
_RELATIVE = frozenset({"t5", "mt5", "umt5"})  # no table of positions at all


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderFacts:
    """What follows from a folder's configuration.

    >>> EncoderFacts(kind="t5", dimension=64, longest=None, ids=100, pooling=Pooling.MEAN).longest is None
    True
    """

    kind: str  # transformers' model_type
    dimension: int  # d, of a token and of the embedding
    longest: int | None  # tokens that have a position; None where positions have no end, or nothing is read in tokens
    ids: int  # rows of the token table; 0 of an encoder of images
    pooling: Pooling


def read_facts(folder: Path) -> EncoderFacts:
    """The facts of the encoder in `folder`.

    Raises:
        ConfigurationError: its configuration is missing, or is none of an encoder.
    """
    configuration = _object(folder / "config.json")
    if is_image_encoder(folder):
        from perennial.continual.images.network import image_dimension

        kind, gives = str(configuration.get("model_type", "")), image_dimension(folder)
        return EncoderFacts(kind=kind, dimension=gives, longest=None, ids=0, pooling=Pooling.CLS)
    kind = str(configuration.get("model_type", ""))
    width = next((configuration[name] for name in _WIDTHS if isinstance(configuration.get(name), int)), None)
    if not kind and width is None:
        raise ConfigurationError(
            f"{folder / 'config.json'} has neither model_type nor hidden_size; save the model with save_pretrained"
        )
    ids, longest = configuration.get("vocab_size"), _longest(kind, configuration)
    if width is None or not isinstance(ids, int) or isinstance(longest, str):
        from perennial.continual.learning.encoder_model import measure

        width, longest, ids = measure(folder)
    return EncoderFacts(kind=kind, dimension=width, longest=longest, ids=ids, pooling=read_pooling(folder))


def hidden_size(folder: Path) -> int:
    """d: the length of the embeddings of the encoder in `folder`.

    Raises:
        ConfigurationError: its configuration does not say.
    """
    return read_facts(folder).dimension


def usable_length(folder: Path, wanted: int, *, least: int = _SHORTEST) -> int:
    """Tokens after which a text is cut: `wanted`, or what the position table and the tokenizer can take if less.

    Raises:
        ConfigurationError: they are fewer than `least`.
    """
    return _bounded(folder, {"max_length": wanted, "the position table": read_facts(folder).longest}, least)


def tokenizer_length(folder: Path, wanted: int, *, least: int = _SHORTEST) -> int:
    """The same where nothing but the tokenizer is known of a model.

    Raises:
        ConfigurationError: they are fewer than `least`.
    """
    return _bounded(folder, {"max_length": wanted}, least)


def _bounded(folder: Path, lengths: dict[str, int | None], least: int) -> int:
    bounds = {name: bound for name, bound in lengths.items() if bound is not None}
    own = _object(folder / "tokenizer_config.json").get("model_max_length")
    if isinstance(own, int | float) and 0 < own < _ENDLESS:
        bounds["the tokenizer's model_max_length"] = int(own)
    name, length = min(bounds.items(), key=lambda bound: bound[1])
    if length < least:
        raise ConfigurationError(f"{name} of {folder} is {length}; it must be at least {least} tokens, e.g. 128")
    return length


def copy_beside_weights(source: Path, target: Path) -> None:
    """Put tokenizer, pooling and prompt of one encoder beside the weights of another that came out of it."""
    for name in _TOKENIZER_FILES:
        if (source / name).is_file():
            shutil.copyfile(source / name, target / name)
    write_pooling(target, read_pooling(source))
    write_prompt(target, read_prompt(source))


def load_tokenizer(folder: Path, max_length: int) -> Any:
    """The folder's `tokenizer.json`, cutting at the usable length on its own side, without padding.

    Raises:
        ConfigurationError: there is none, it cannot be read, or it knows ids that the encoder has no row for.
    """
    tokenizer = read_tokenizer(folder, usable_length(folder, max_length))
    last, rows = max(tokenizer.get_vocab().values(), default=0), read_facts(folder).ids
    if last >= rows:
        raise ConfigurationError(
            f"{folder / 'tokenizer.json'} knows ids up to {last}, but the encoder has {rows} of them; "
            f"call model.resize_token_embeddings({last + 1}) and save the model, or take its own tokenizer"
        )
    return tokenizer


def read_tokenizer(folder: Path, length: int) -> Any:
    """The folder's `tokenizer.json` with the folder's prompt, cutting at `length` tokens on its own side, not padding.

    Raises:
        ConfigurationError: there is none, it cannot be read, or no text fits beside its prompt.
    """
    from tokenizers import Tokenizer

    path = folder / "tokenizer.json"
    if not path.is_file():
        raise ConfigurationError(f"encoder folder {folder} has no tokenizer.json; save it with a fast tokenizer")
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the Rust library raises bare Exception
        raise ConfigurationError(f"{path} is not a tokenizer file: {error}") from error
    add_prompt(tokenizer, read_prompt(folder))
    if (frame := tokenizer.num_special_tokens_to_add(is_pair=False)) >= length:
        raise ConfigurationError(
            f"{folder} frames a text by {frame} tokens, its prompt's among them, and texts are cut at {length}; "
            f"set max_length to at least {frame + 1}"
        )
    cut = tokenizer.truncation or {}
    tokenizer.enable_truncation(length, direction=str(cut.get("direction", "right")).lower())
    tokenizer.no_padding()
    return tokenizer


def _longest(kind: str, configuration: dict[str, Any]) -> int | str | None:
    """Tokens that have a position; a text where only the model itself can tell."""
    if kind in _RELATIVE:
        return None
    table: int | None = next(
        (configuration[name] for name in _TABLES if isinstance(configuration.get(name), int)), None
    )
    if table is not None and table < 0:
        return None
    if table is None or kind not in _PLAIN | _AFTER_PADDING:
        return "unknown"
    if kind in _PLAIN:
        return table
    padding = configuration.get("pad_token_id", 1)
    return table - padding - 1 if isinstance(padding, int) else "unknown"


def _object(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigurationError(f"{path} is not JSON ({error}); save the model with save_pretrained") from error
    if not isinstance(document, dict):
        raise ConfigurationError(
            f"{path} is {type(document).__name__}; it must be an object, as save_pretrained writes it"
        )
    return document
