"""Tiny decoders with random weights, and trained folders and bundles of them."""

import atexit
import json
from dataclasses import replace
from functools import cache
from pathlib import Path
from shutil import copytree, rmtree
from tempfile import mkdtemp
from typing import Any

from perennial.continual.learning.generation import TrainedDecoder
from perennial.continual.tasks.generation import Rewrite
from perennial.exporters.bundle import read_manifest, write_manifest
from perennial.exporters.job import export_bundle
from perennial.exporters.spec import ExportResult, ExportSpec

APPROVED = (
    "You cannot return it after 30 days.",
    "The fee is $10. See https://pay.example/a.",
    "退款需要三天。",
    "Please send the form by post.",
    "Call us on Monday.",
)
REWRITES = [
    Rewrite(approved=text, tone=tone, name=name)
    for text, (tone, name) in zip(
        APPROVED, (("friendly", "{name}"), ("", ""), ("", "{name}"), ("formal", ""), ("", "")), strict=True
    )
]


def write_decoder(folder: Path, kind: str = "llama", *, seed: int = 0) -> Path:
    """A decoder that transformers saved, whose tokenizer knows every byte."""
    import torch
    import transformers
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<|end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([*APPROVED, "Hi Hello Dear Thank you for your patience. Have a great day!"], trainer)
    folder.mkdir(parents=True, exist_ok=True)
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|end|>").save_pretrained(folder)
    torch.manual_seed(seed)
    words = tokenizer.get_vocab_size()
    config: Any
    if kind == "gpt2":
        config = transformers.GPT2Config(vocab_size=words, n_positions=2_048, n_embd=32, n_layer=1, n_head=4)
        model: Any = transformers.GPT2LMHeadModel(config)
    else:
        of_kind = {"llama": transformers.LlamaConfig, "qwen2": transformers.Qwen2Config}[kind]
        config = of_kind(
            vocab_size=words,
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=1,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=2_048,
        )
        made = {"llama": transformers.LlamaForCausalLM, "qwen2": transformers.Qwen2ForCausalLM}[kind]
        model = made(config)
    model.config.eos_token_id = tokenizer.token_to_id("<|end|>")
    model.save_pretrained(folder)
    return folder


def train_decoder(folder: Path, decoder: Path, **settings: Any) -> Path:
    """The decoder as a learner leaves it that has learnt nothing."""
    TrainedDecoder.take(str(decoder), folder, learner="rewriter", settings=settings)
    return folder


def write_rewrites(path: Path) -> Path:
    """Held-out rows in a file, as an export reads them."""
    rows = [{"approved": one.approved, "tone": one.tone, "name": one.name} for one in REWRITES]
    path.write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8")
    return path


def export_decoder(
    folder: Path, trained: Path, version: int = 1, *, engine: str = "onnxruntime", precision: str = "fp32"
) -> ExportResult:
    """The decoder's bundle in `folder`."""
    return export_bundle(
        ExportSpec(
            task="generation",
            trained_dir=trained,
            out_dir=folder,
            held_out=write_rewrites(folder.with_name(f"held-{version}.json")),
            model="tiny",
            version=version,
            engine=engine,
            precision=precision,
            threads=1,
        )
    )


@cache
def exported() -> tuple[Path, ExportResult]:
    """A guided decoder as it was trained and its export, made once a process: most of an export is tracing."""
    root = Path(mkdtemp(prefix="decoder-"))
    atexit.register(rmtree, root, ignore_errors=True)
    trained = train_decoder(root / "trained", write_decoder(root / "decoder"))
    return trained, export_decoder(root / "1", trained)


def write_version(folder: Path, version: int, *, guided: bool = True) -> Path:
    """That bundle as a version of its own, which is guided or writes what it likes."""
    copytree(exported()[1].bundle, folder)
    manifest = read_manifest(folder)
    write_manifest(folder, replace(manifest, version=version, part={**manifest.part, "guided": guided}))
    return folder
