"""One workspace, initialised once: a tiny random encoder and a first version that knows three subjects."""

from pathlib import Path

import numpy as np
import pytest

from tests.e2e.workspace import E2eWorkspace, make_workspace, write_csv

SUBJECTS = {
    "card": ["card", "plastic", "chip", "pin"],
    "loan": ["loan", "interest", "mortgage", "debt"],
    "trip": ["trip", "flight", "hotel", "visa"],
    "fees": ["fee", "charge", "cost", "price"],
}
OTHER = ["my", "the", "please", "help", "with", "a", "is", "was", "about", "new", "old", "why", "when", "lost", "and"]


def requests_about(labels: list[str], count: int, seed: int) -> list[tuple[str, str]]:
    """`count` different texts, evenly about the labels' subjects, with their labels."""
    rng = np.random.default_rng(seed)
    rows: dict[str, str] = {}
    while len(rows) < count:
        label = labels[len(rows) % len(labels)]
        words = [*rng.choice(OTHER, 5), *rng.choice(SUBJECTS[label], 2)]
        rows.setdefault(" ".join(rng.permutation(words).tolist()), label)
    return list(rows.items())


@pytest.fixture(scope="session")
def tiny_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT of hidden size 32 with random weights and a word-level tokenizer."""
    import torch
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import BertConfig, BertModel

    folder = tmp_path_factory.mktemp("tiny-encoder")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *OTHER, *(word for some in SUBJECTS.values() for word in some)]
    tokenizer = Tokenizer(models.WordLevel({word: place for place, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
    config = BertConfig(vocab_size=len(words), max_position_embeddings=32, initializer_range=0.05, **sizes)
    BertModel(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory, tiny_encoder: Path) -> E2eWorkspace:
    """Version 1 is trained and published; nothing serves yet."""
    made = make_workspace(tmp_path_factory.mktemp("workspace"), tiny_encoder)
    rows = requests_about(["card", "loan", "trip"], 300, seed=1)
    version = made.cli("init", "--data", str(write_csv(made.folder / "seed.csv", rows)))
    assert version["version"] == 1
    return made
