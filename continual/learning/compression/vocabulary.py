"""An encoder with the words that its texts need: the table of tokens, and the tokenizer, without the others.

A text of kept tokens alone is answered as before, to the bit. Another one is cut into smaller pieces.
"""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from perennial.continual.atomic_file import folder_written_whole
from perennial.continual.errors import ConfigurationError
from perennial.continual.learning.encoder_folder import copy_beside_weights, load_tokenizer
from perennial.continual.learning.encoder_model import load_encoder

__all__ = ["MARGIN", "cut_vocabulary"]

MARGIN = (
    8_000  # tokens that stay although no text has them: the first ones of the list are the commonest of the language
)
_CONTINUES, _SPACE = "##", "▁"
_BESIDE = ("vocab.txt", "special_tokens_map.json")  # other forms of the same list, of all tokens


def cut_vocabulary(source: Path, out: Path, texts: Sequence[str], *, max_length: int, margin: int = MARGIN) -> int:
    """Write the encoder with the tokens of these texts, a margin, and every single character; return how many.

    Raises:
        ConfigurationError: the tokenizer merges pairs (BPE), whose list cannot be cut; or knows no list.
    """
    import torch

    tokenizer = load_tokenizer(source, max_length)
    document = json.loads((source / "tokenizer.json").read_text(encoding="utf-8"))
    tokens = _tokens(document, source)
    used = {token for row in tokenizer.encode_batch(list(texts)) for token in row.ids}
    kept = _kept(tokens, used, document, margin)
    places = {int(old): new for new, old in enumerate(kept)}
    encoder = load_encoder(source)
    table = encoder.get_input_embeddings()
    with torch.no_grad():
        smaller = torch.nn.Embedding(len(kept), table.embedding_dim)
        smaller.weight.copy_(table.weight[torch.from_numpy(kept)])
    padding = places.get(-1 if table.padding_idx is None else table.padding_idx)
    smaller.padding_idx = padding
    encoder.set_input_embeddings(smaller)
    encoder.config.vocab_size = len(kept)
    for name in ("pad_token_id", "bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id"):
        if isinstance(old := getattr(encoder.config, name, None), int):
            setattr(encoder.config, name, places.get(old))
    with folder_written_whole(out) as staging:
        encoder.save_pretrained(staging, safe_serialization=True)
        copy_beside_weights(source, staging)
        for name in _BESIDE:
            (staging / name).unlink(missing_ok=True)
        written = json.dumps(_renumbered(document, tokens, kept, places), ensure_ascii=False)
        (staging / "tokenizer.json").write_text(written, encoding="utf-8")
    return len(kept)


def _tokens(document: dict[str, Any], source: Path) -> dict[int, str]:
    """Every token of the model's own list by its id."""
    vocabulary = document["model"].get("vocab")
    kind = document["model"].get("type") or ("Unigram" if isinstance(vocabulary, list) else "WordPiece")
    if kind in {"WordPiece", "WordLevel"}:
        return {number: token for token, number in vocabulary.items()}
    if kind == "Unigram":
        return {number: token for number, (token, _) in enumerate(vocabulary)}
    raise ConfigurationError(
        f"the tokenizer of {source} is a {kind}, whose tokens depend on one another; keep it whole"
    )


def _kept(tokens: dict[int, str], used: Iterable[int], document: dict[str, Any], margin: int) -> NDArray[np.int64]:
    """The ids that stay, in their order."""
    unknown = document["model"].get("unk_token"), document["model"].get("unk_id")
    special = {int(each["id"]) for each in document.get("added_tokens", ())}
    special |= {number for number, token in tokens.items() if token == unknown[0] or number == unknown[1]}
    single = {
        number for number, token in tokens.items() if len(token.removeprefix(_CONTINUES).removeprefix(_SPACE)) <= 1
    }
    return np.array(sorted({*used, *special, *single, *sorted(tokens)[:margin]}), dtype=np.int64)


def _renumbered(
    document: dict[str, Any], tokens: dict[int, str], kept: NDArray[np.int64], places: dict[int, int]
) -> dict[str, Any]:
    """The tokenizer's file with the ids of the smaller table."""
    model = dict(document["model"])
    if isinstance(model["vocab"], list):
        model["vocab"] = [model["vocab"][number] for number in kept.tolist() if number < len(model["vocab"])]
        unknown = model.get("unk_id")
        model["unk_id"] = places.get(unknown) if isinstance(unknown, int) else None
    else:
        model["vocab"] = {tokens[number]: places[number] for number in kept.tolist() if number in tokens}
    added = [{**each, "id": places[each["id"]]} for each in document.get("added_tokens", ())]
    padding = document.get("padding")
    if isinstance(padding, dict) and padding.get("pad_id") in places:
        padding = {**padding, "pad_id": places[padding["pad_id"]]}
    frame = _framed(document.get("post_processor"), places)
    return {**document, "model": model, "added_tokens": added, "padding": padding, "post_processor": frame}


def _framed(processor: Any, places: dict[int, int]) -> Any:
    """The frame around a text, wherever its description names ids: lists of them, or pairs of token and id."""
    if isinstance(processor, dict):
        return {
            name: [places[number] for number in value] if name == "ids" else _framed(value, places)
            for name, value in processor.items()
        }
    if isinstance(processor, list):
        if len(processor) == 2 and isinstance(processor[0], str) and isinstance(processor[1], int):
            return [processor[0], places[processor[1]]]
        return [_framed(each, places) for each in processor]
    return processor
