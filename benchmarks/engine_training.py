"""The engine benchmark's model: MiniLM tuned on the training split with a linear head, batches of similar length.

The product's slow learner gives such models too; this is the plain recipe, in a tenth of its padding, so that two AVX2
cores are done in ten minutes. It goes on from its last checkpoint: `python -m benchmarks.engine_training DATA CACHE`.
"""

import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from perennial.continual.atomic_file import written_whole
from perennial.continual.learning.calibration import fit_temperature
from perennial.continual.learning.card import ModelCard, is_finished
from perennial.continual.learning.encoder import (
    PACKAGED_MINILM,
    fingerprint,
    load_tokenizer,
    padded_tensors,
    resolve_encoder,
)
from perennial.continual.learning.network import SCALE, Tuned, make_network
from perennial.continual.learning.trained import HEAD_FILE
from perennial.continual.preparation import read_labelled_file

__all__ = ["train"]

_EPOCHS = 2
_BATCH = 32
_POOL = 16  # batches among which rows are sorted by length
_RATE, _HEAD_RATE = 2e-4, 2e-3
_WARM = 0.1
_CHECKPOINT_STEPS = 20
_MAX_LENGTH = 128
Array = npt.NDArray[Any]


def train(data: Path, cache: Path, threads: int) -> Path:
    """The trained model's folder, from `cache` when it is finished there.

    Every twentieth training row is held out for the temperature.
    """
    import torch

    folder = cache / "finetuned"
    if is_finished(folder):
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    rows = read_labelled_file(data / "train.csv")
    labels = tuple(sorted({row.label for row in rows}))
    source = resolve_encoder(PACKAGED_MINILM)
    tokenizer = load_tokenizer(source, _MAX_LENGTH)
    tokens = [encoding.ids for encoding in tokenizer.encode_batch([row.text for row in rows])]
    truth = np.array([labels.index(row.label) for row in rows])
    held = np.arange(len(rows)) % 20 == 0
    start = np.random.default_rng(0).normal(scale=0.05, size=(len(labels), 384)).astype(np.float32)
    network = make_network(source, start, Tuned())
    _tune(network, [tokens[i] for i in np.flatnonzero(~held)], truth[~held], folder / "checkpoint.pt")
    network.eval()
    logits = _logits(network, [tokens[i] for i in np.flatnonzero(held)])
    _write(folder, network, source, labels, fit_temperature(logits, truth[held]), float((~held).sum()))
    (folder / "checkpoint.pt").unlink(missing_ok=True)
    return folder


def _batches(lengths: Sequence[int], epoch: int) -> list[Array]:
    order = np.random.default_rng(epoch)
    mixed = order.permutation(len(lengths))
    pools = [mixed[at : at + _BATCH * _POOL] for at in range(0, len(mixed), _BATCH * _POOL)]
    sizes = np.asarray(lengths)
    batches = [
        pool[np.argsort(sizes[pool], kind="stable")][at : at + _BATCH]
        for pool in pools
        for at in range(0, len(pool), _BATCH)
    ]
    return [batches[index] for index in order.permutation(len(batches))]


def _tune(network: Any, tokens: Sequence[Sequence[int]], truth: Array, checkpoint: Path) -> None:
    import torch

    groups = [
        {"params": network.encoder.parameters(), "lr": _RATE},
        {"params": network.head.parameters(), "lr": _HEAD_RATE},
    ]
    optimiser = torch.optim.AdamW(groups, weight_decay=0.01)
    plan = [batch for epoch in range(_EPOCHS) for batch in _batches([len(row) for row in tokens], epoch)]
    warm = int(_WARM * len(plan))
    pace = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: (step + 1) / warm if step < warm else (len(plan) - step) / (len(plan) - warm)
    )
    first = 0
    if checkpoint.is_file():
        saved = torch.load(checkpoint, weights_only=True)
        network.load_state_dict(saved["network"])
        optimiser.load_state_dict(saved["optimiser"])
        pace.load_state_dict(saved["pace"])
        first = int(saved["step"])
    network.train()
    for step in range(first, len(plan)):
        ids, mask = padded_tensors([tokens[index] for index in plan[step]])
        loss = torch.nn.functional.cross_entropy(network(ids, mask), torch.from_numpy(truth[plan[step]]))
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        pace.step()
        if (step + 1) % _CHECKPOINT_STEPS == 0:
            state = {"network": network.state_dict(), "optimiser": optimiser.state_dict(), "pace": pace.state_dict()}
            with written_whole(checkpoint) as temporary:
                torch.save({**state, "step": step + 1}, temporary)
            sys.stderr.write(f"tuning: step {step + 1} of {len(plan)}, loss {loss.item():.3f}\n")


def _logits(network: Any, tokens: Sequence[Sequence[int]]) -> npt.NDArray[np.float64]:
    import torch

    with torch.inference_mode():
        parts = [network(*padded_tensors(tokens[at : at + _BATCH])).numpy() for at in range(0, len(tokens), _BATCH)]
    logits: npt.NDArray[np.float64] = np.concatenate(parts).astype(np.float64)
    return logits


def _write(folder: Path, network: Any, source: Path, labels: tuple[str, ...], temperature: float, rows: float) -> None:
    from safetensors.numpy import save_file

    encoder = folder / "encoder"
    shutil.rmtree(encoder, ignore_errors=True)
    network.merged().save_pretrained(encoder, safe_serialization=True)
    shutil.copyfile(source / "tokenizer.json", encoder / "tokenizer.json")
    weight = SCALE * network.head.weight.detach().numpy() / np.float32(temperature)
    bias = network.head.bias.detach().numpy() / np.float32(temperature)
    save_file({"weight": np.ascontiguousarray(weight), "bias": bias}, folder / HEAD_FILE)
    ModelCard(
        learner="finetune", encoder="encoder", encoder_fingerprint=fingerprint(encoder), labels=labels, head="linear",
        temperature=temperature, max_length=_MAX_LENGTH, data={"rows": int(rows), "classes": len(labels)},
        settings={"epochs": _EPOCHS, "batch": _BATCH, "learning_rate": _RATE},
    ).write(folder)  # fmt: skip


if __name__ == "__main__":
    sys.stdout.write(json.dumps({"trained": str(train(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])))}) + "\n")
