"""The frozen inputs of the learning benchmark: one embedding pass, kept on disk, read by every arm."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from perennial.continual.atomic_file import written_whole
from perennial.continual.learning.encoder import PACKAGED_MINILM, Encoder, fingerprint, padded_tensors
from perennial.continual.preparation import read_labelled_file
from perennial.continual.records import Example

__all__ = ["LAYERS", "Frozen", "class_orders", "embed_layers", "load"]

LAYERS = (6, 4, 2, 0)  # MiniLM's last hidden state, two middle ones and the word embeddings; each mean-pooled, length 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Frozen:
    """Both splits, embedded: x (rows, 384) is the last layer, layers (rows, 4 x 384) are all of LAYERS side by side."""

    labels: tuple[str, ...]  # published order; y counts in it
    train: tuple[Example, ...]
    y_train: NDArray[np.int64]
    y_test: NDArray[np.int64]
    test_texts: tuple[str, ...]
    layers_train: NDArray[np.float32]
    layers_test: NDArray[np.float32]
    digest: str

    @property
    def x_train(self) -> NDArray[np.float32]:
        """The last layer of the training rows."""
        return np.ascontiguousarray(self.layers_train[:, : self.layers_train.shape[1] // len(LAYERS)])

    @property
    def x_test(self) -> NDArray[np.float32]:
        """The last layer of the test rows."""
        return np.ascontiguousarray(self.layers_test[:, : self.layers_test.shape[1] // len(LAYERS)])


def load(folder: Path, cache: Path) -> Frozen:
    """Read train.csv, test.csv and categories.json, and embed what the cache lacks."""
    labels = tuple(json.loads((folder / "categories.json").read_text()))
    train, test = (read_labelled_file(folder / f"{name}.csv") for name in ("train", "test"))
    place = {label: i for i, label in enumerate(labels)}
    encoder = Encoder.load(PACKAGED_MINILM, threads=2)
    found = [_cached(encoder, [row.text for row in rows], cache) for rows in (train, test)]
    digest = hashlib.sha256(found[0].tobytes() + found[1].tobytes()).hexdigest()[:16]
    return Frozen(
        labels=labels,
        train=tuple(train),
        y_train=np.array([place[row.label] for row in train]),
        y_test=np.array([place[row.label] for row in test]),
        test_texts=tuple(row.text for row in test),
        layers_train=found[0],
        layers_test=found[1],
        digest=digest,
    )


def class_orders(classes: int, count: int) -> list[list[int]]:
    """Return the published order and count - 1 seeded ones."""
    return [list(range(classes))] + [
        np.random.default_rng(seed).permutation(classes).tolist() for seed in range(1, count)
    ]


def embed_layers(encoder: Encoder, texts: list[str], batch: int = 64) -> NDArray[np.float32]:
    """Return each text's mean-pooled layers side by side, each of length 1: (texts, 4 x 384)."""
    import torch

    tokens = encoder.tokenizer.encode_batch(texts)
    out = np.empty((len(texts), len(LAYERS) * encoder.dimension), dtype=np.float32)
    order = sorted(range(len(texts)), key=lambda row: len(tokens[row].ids))
    with torch.inference_mode():
        for start in range(0, len(order), batch):
            rows = order[start : start + batch]
            ids, mask = padded_tensors([tokens[row].ids for row in rows])
            hidden = encoder.model(input_ids=ids, attention_mask=mask, output_hidden_states=True).hidden_states
            weight = mask.unsqueeze(-1).float()  # (batch, tokens, 1)
            pooled = [(hidden[layer] * weight).sum(1) / weight.sum(1) for layer in LAYERS]
            out[rows] = torch.cat([torch.nn.functional.normalize(part, dim=-1) for part in pooled], 1).numpy()
    return out


def _cached(encoder: Encoder, texts: list[str], cache: Path) -> NDArray[np.float32]:
    name = hashlib.sha256("\n".join([fingerprint(encoder.folder), repr(LAYERS), *texts]).encode()).hexdigest()[:16]
    path = cache / f"layers-{name}.npy"
    if not path.exists():
        layers = embed_layers(encoder, texts)
        with written_whole(path) as temporary, temporary.open("wb") as file:
            np.save(file, layers)
    found: NDArray[np.float32] = np.load(path)
    return found
