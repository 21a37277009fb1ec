"""Encoders: found by name, told apart by fingerprint, run over many texts at once."""

import hashlib
import json
import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from perennial.continual.arrays import pad
from perennial.continual.errors import ConfigurationError, DependencyUnreachable
from perennial.continual.images.preprocessing import PREPROCESSING_FILE, is_image_encoder
from perennial.continual.learning.encoder_folder import hidden_size, load_tokenizer, read_facts, usable_length
from perennial.continual.learning.encoder_model import load_encoder
from perennial.continual.learning.file_digest import file_digest
from perennial.continual.learning.packaged import (
    PACKAGED_E5,
    PACKAGED_LITE0,
    PACKAGED_MINILM,
    is_packaged,
    packaged_folder,
)
from perennial.continual.learning.pooling import Pooling, pool, read_pooling
from perennial.continual.learning.prompt import read_prompt

__all__ = [
    "PACKAGED_E5",
    "PACKAGED_LITE0",
    "PACKAGED_MINILM",
    "Embedder",
    "Encoder",
    "InBfloat16",
    "Progress",
    "fingerprint",
    "hidden_size",
    "load_tokenizer",
    "padded_tensors",
    "pool",
    "resolve_encoder",
    "usable_length",
]

Progress = Callable[[int, int], None]  # rows done, rows in all

logger = logging.getLogger(__name__)
_COMPARED = 16  # texts
_WEIGHTS, _SHARD_LIST, _SHARDS = "model.safetensors", "model.safetensors.index.json", "model-*-of-*.safetensors"
_FINGERPRINTED = ("config.json", "tokenizer.json", "vocab.txt", _WEIGHTS)


class Embedder(Protocol):
    """Anything that turns texts into unit vectors: `Encoder.embed`, or a compiled engine."""

    def __call__(self, texts: Sequence[str], /) -> NDArray[np.float32]:
        """The texts' embeddings, float32 (texts, d), rows of length 1, in the order given."""
        ...


def resolve_encoder(name: str) -> Path:
    """The folder that holds an encoder's `config.json`, weights and `tokenizer.json` or `preprocessor_config.json`.

    `packaged:minilm` and `packaged:e5` were installed with this package, and `packaged:efficientnet-lite0` comes with
    its extra `images`; an existing folder is itself; anything else
    is a Hugging Face name, looked for in the local cache first and on the hub only when it is not there.

    Raises:
        ConfigurationError: the folder has no `config.json`, or the packaged name is unknown.
        DataError: what was installed is damaged.
        DependencyUnreachable: the name is neither in the local cache nor to be had from the hub.
    """
    if is_packaged(name):
        return packaged_folder(name)
    folder = Path(name).expanduser()
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise ConfigurationError(f"encoder folder {folder} has no config.json; give a Hugging Face model folder")
        return folder.resolve()
    if folder.is_absolute() or name.startswith(".") or name.count("/") > 1:
        raise ConfigurationError(f"encoder folder {folder} does not exist; give a folder, a name or {PACKAGED_MINILM}")
    return _from_hub(name)


def _from_hub(name: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    wanted = ["*.json", "*.txt", "*.safetensors", "*.model"]
    try:
        return Path(snapshot_download(name, allow_patterns=wanted, local_files_only=True))
    except LocalEntryNotFoundError:
        pass
    except ValueError as error:  # includes HFValidationError
        raise ConfigurationError(f"encoder {name!r} is not a folder nor a model name: {error}") from error
    try:
        return Path(snapshot_download(name, allow_patterns=wanted))
    except Exception as error:
        raise DependencyUnreachable(
            f"encoder {name!r} is not in the local cache and could not be fetched ({type(error).__name__}); "
            f"use {PACKAGED_MINILM!r}, a folder, or fetch it once with: hf download {name}"
        ) from error


def fingerprint(folder: Path) -> str:
    """sha256 over configuration, weights and tokenizer: equal for folders that embed alike, whatever their names.

    Re-read only when a file's size or modification time changed.

    Raises:
        ConfigurationError: the folder lacks `config.json` or `model.safetensors`, whole or in shards.
    """
    files = [folder / name for name in _FINGERPRINTED if (folder / name).is_file()]
    shards = sorted(folder.glob(_SHARDS)) if (folder / _SHARD_LIST).is_file() else []
    weights = {_WEIGHTS} & {path.name for path in files} or shards
    missing = sorted({"config.json"} - {path.name for path in files}) + ([] if weights else [_WEIGHTS])
    if shards:
        missing += sorted(_listed(folder / _SHARD_LIST) - {path.name for path in shards})
    if missing:
        raise ConfigurationError(
            f"encoder folder {folder} lacks {missing}; save the model with save_pretrained, as safetensors"
        )
    if shards and not (folder / _WEIGHTS).is_file():
        files += [folder / _SHARD_LIST, *shards]
    total = hashlib.sha256()
    if prompt := read_prompt(folder):
        total.update(f"prompt {json.dumps(prompt)}\n".encode())
    if (pooling := read_pooling(folder)) is not Pooling.MEAN:  # the mean has no line: it was once the only one
        total.update(f"pooling {pooling.value}\n".encode())
    for path in (*files, *([folder / PREPROCESSING_FILE] if is_image_encoder(folder) else [])):
        total.update(f"{path.name} {_digest(path)}\n".encode())
    return f"sha256:{total.hexdigest()}"


def _listed(path: Path) -> set[str]:
    """The shards that a list of shards names."""
    try:
        return set(map(str, json.loads(path.read_bytes())["weight_map"].values()))
    except (OSError, ValueError, RecursionError, LookupError, TypeError, AttributeError) as error:
        raise ConfigurationError(f"{path} lists no shards ({error}); save the model with save_pretrained") from error


def _digest(path: Path) -> str:
    return hashlib.sha256(_configuration(path)).hexdigest() if path.name == "config.json" else file_digest(path)


def _configuration(path: Path) -> bytes:
    try:
        settings = json.loads(path.read_bytes())
    except ValueError as error:
        raise ConfigurationError(f"{path} is not JSON ({error}); save the model with save_pretrained") from error
    for passing in ("_name_or_path", "transformers_version", "torch_dtype", "dtype"):
        settings.pop(passing, None)
    return json.dumps(settings, sort_keys=True).encode()


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoder:
    """A frozen transformer with its tokenizer, on the CPU.

    Holds about 90 MB for MiniLM. Not safe to share between threads that embed at the same time.

    >>> Encoder.__doc__ is not None
    True
    """

    folder: Path
    model: Any = field(repr=False)  # transformers.PreTrainedModel
    tokenizer: Any = field(repr=False)  # tokenizers.Tokenizer
    max_length: int
    dimension: int
    pooling: Pooling = Pooling.MEAN

    @classmethod
    def load(cls, name: str, *, max_length: int = 128, threads: int = 0) -> "Encoder":
        """The named encoder, ready to embed.

        Args:
            name: what `resolve_encoder` takes.
            max_length: tokens after which a text is cut; lowered to what the model can take.
            threads: for torch in this process; 0 leaves torch's own setting.

        Raises:
            ConfigurationError: the folder holds no model or tokenizer that can be read.
        """
        import torch

        if threads:
            torch.set_num_threads(threads)
        folder = resolve_encoder(name)
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        max_length = usable_length(folder, max_length)
        tokenizer = load_tokenizer(folder, max_length)
        facts = read_facts(folder)
        return cls(
            folder=folder,
            model=load_encoder(folder).requires_grad_(False),
            tokenizer=tokenizer,
            max_length=max_length,
            dimension=facts.dimension,
            pooling=facts.pooling,
        )

    def embed(
        self, texts: Sequence[str], *, batch: int = 64, progress: Progress | None = None, bf16: bool = False
    ) -> NDArray[np.float32]:
        """The texts' embeddings, float32 (texts, d), rows of length 1, in the order given.

        Equal texts are embedded once and texts of like length together; about 200 rows a second on two AVX2 cores. With
        `bf16` the products of matrices are of bfloat16; see `InBfloat16`.
        """
        import torch

        distinct = list(dict.fromkeys(texts))
        out = np.empty((len(distinct), self.dimension), dtype=np.float32)
        tokens = self.tokenizer.encode_batch(distinct)
        order = sorted(range(len(distinct)), key=lambda row: len(tokens[row].ids))
        with torch.inference_mode():
            for start in range(0, len(order), batch):
                rows = order[start : start + batch]
                ids, mask = padded_tensors([tokens[row].ids for row in rows])
                with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
                    hidden = self.model(input_ids=ids, attention_mask=mask).last_hidden_state
                out[rows] = pool(hidden.float(), mask, self.pooling).numpy()
                if progress is not None:
                    progress(min(start + batch, len(order)), len(order))
        place = {text: row for row, text in enumerate(distinct)}
        return out[[place[text] for text in texts]] if texts else out

    def __call__(self, texts: Sequence[str], /) -> NDArray[np.float32]:
        """`embed` with its defaults, so that an encoder is an `Embedder`."""
        return self.embed(texts)


class InBfloat16:
    """Embeds in bfloat16 as long as that gives what full precision gives, which its first texts tell.

    An engine that serves in a low precision embeds no more exactly, and heads learn from its embeddings too. It takes
    little more than half of the time where the processor has bfloat16, see `has_fast_bf16`, and more elsewhere.

    >>> InBfloat16.LEAST_COSINE
    0.999
    """

    LEAST_COSINE = 0.999

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self._agrees: bool | None = None

    def __call__(self, texts: Sequence[str], /) -> NDArray[np.float32]:
        """See `Encoder.embed`."""
        if self._agrees is None and texts:
            self._agrees = self._compared(texts)
        return self._encoder.embed(texts, bf16=bool(self._agrees))

    def _compared(self, texts: Sequence[str]) -> bool:
        some = sorted(set(texts), key=len)
        some = some[:: -(-len(some) // _COMPARED)]
        exact, fast = self._encoder.embed(some), self._encoder.embed(some, bf16=True)
        least = float((exact * fast).sum(axis=1).min())
        if not least >= self.LEAST_COSINE:
            logger.info("encoder.not_in_bfloat16", extra={"encoder": str(self._encoder.folder), "least_cosine": least})
            return False
        return True


def padded_tensors(rows: Sequence[Sequence[int]]) -> tuple[Any, Any]:
    """Token ids and their mask as int64 tensors (rows, longest row, at least 1), padded with 0 at the end."""
    import torch

    ids, mask = pad(rows, width=1)
    return torch.from_numpy(ids), torch.from_numpy(mask)
