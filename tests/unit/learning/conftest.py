"""A tiny random encoder and rows about three subjects."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from perennial.continual.learning.rows import write_rows
from perennial.continual.records import Example

_SUBJECTS = {
    "card": ["card", "plastic", "chip", "pin"],
    "loan": ["loan", "interest", "mortgage", "debt"],
    "trip": ["trip", "flight", "hotel", "visa"],
    "fees": ["fee", "charge", "cost", "price"],
}
_OTHER = ["my", "the", "please", "help", "with", "a", "is", "was", "about", "new", "old", "why", "when", "lost", "and"]


@pytest.fixture(scope="session")
def tiny_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT of hidden size 32 with random weights and a word-level tokenizer."""
    import torch
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import BertConfig, BertModel

    folder = tmp_path_factory.mktemp("tiny")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *_OTHER, *(word for words in _SUBJECTS.values() for word in words)]
    tokenizer = Tokenizer(models.WordLevel({word: place for place, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=48,
        max_position_embeddings=32,
        initializer_range=0.05,
    )
    BertModel(config).save_pretrained(folder)
    return folder


def make_rows(labels: str, count: int, seed: int) -> list[Example]:
    """`count` distinct rows for each of the space-separated labels."""
    rng = np.random.default_rng(seed)
    rows: dict[str, Example] = {}
    for label in labels.split():
        wanted = len(rows) + count
        while len(rows) < wanted:
            words = [*rng.choice(_OTHER, 4), *rng.choice(_SUBJECTS[label], 2)]
            text = " ".join(rng.permutation(words).tolist())
            rows.setdefault(text, Example(text=text, label=label, at=datetime(2026, 1, 1, tzinfo=UTC)))
    return list(rows.values())


@pytest.fixture
def make_spec(tmp_path: Path, tiny_encoder: Path) -> Callable[..., Path]:
    """Writes rows and a spec; lists of examples become files, the path of the spec comes back."""

    def write(name: str = "job", **fields: object) -> Path:
        spec: dict[str, object] = {
            "learner": "kernel_lda",
            "encoder": str(tiny_encoder),
            "examples": None,
            "out": f"{name}-out",
            "threads": 1,
            "nice": 0,
            "max_length": 24,
            "cache": "cache",
            "params": {"features": 200},
        }
        for key, value in fields.items():
            if isinstance(value, list):
                write_rows(tmp_path / f"{name}-{key}.jsonl", value)
                spec[key] = f"{name}-{key}.jsonl"
            else:
                spec[key] = str(value) if isinstance(value, Path) else value
        path = tmp_path / f"{name}.json"
        path.write_text(json.dumps(spec), encoding="utf-8")
        return path

    return write


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What needs an encoder loads torch, so that it is slow."""
    for item in items:
        if "tiny_encoder" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.slow)
