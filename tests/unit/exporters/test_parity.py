"""The parity gate's rules, on engines small enough to see through."""

from collections.abc import Sequence

import numpy as np
import pytest

from continual.errors import ConfigurationError, ParityFailed
from exporters.bundle import Precision
from exporters.classifier import pad, run_sorted
from exporters.parity import ParityLimits, ParityVerdict, check_parity, default_limits
from exporters.runtime import Floats, Tokens

TEXTS = [" ".join(f"w{(7 * i + j) % 20}" for j in range(1 + i % 9)) for i in range(60)]


class Words:
    """A tokenizer of the words w0..w19."""

    def __init__(self, shift: int = 0) -> None:
        self.shift = shift

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        return [[1 + (int(word[1:]) + self.shift) % 20 for word in text.split()] for text in texts]


class BagEngine:
    """Masked mean of word vectors, then a linear head: a whole text model in two lines of numpy."""

    def __init__(self, *, scale: float = 1.0, masked: bool = True, noise: float = 0.0, broken: float = 0.0) -> None:
        generator = np.random.default_rng(3)
        self.table = generator.normal(size=(21, 8)).astype(np.float32)
        self.table[0] = 5.0  # padding is loud, so a dropped mask is heard
        self.weight = generator.normal(size=(8, 5)).astype(np.float32)
        self.weight[0] *= scale
        self.masked, self.noise, self.broken = masked, noise, broken

    def infer(self, input_ids: Tokens, attention_mask: Tokens) -> tuple[Floats, Floats]:
        mask = attention_mask if self.masked else np.ones_like(attention_mask)
        vectors = self.table[input_ids] * mask[..., None]
        mean = vectors.sum(1) / mask.sum(1, keepdims=True)
        embedding = (mean / np.linalg.norm(mean, axis=1, keepdims=True)).astype(np.float32)
        logits = (embedding @ self.weight + self.noise * np.sin(1e3 * embedding[:, :1])).astype(np.float32)
        logits[:, 0] += np.float32(self.broken)
        return logits, embedding


class Model:
    """An answerer of the gate."""

    def __init__(self, engine: BagEngine, labels: str = "abcde", shift: int = 0) -> None:
        self.engine = engine
        self.tokenizer = Words(shift)
        self.labels: Sequence[str] = tuple(labels)


def judge(
    engine: Model, precision: Precision = Precision.FP32, labels: list[str] | None = None, **limits: float
) -> ParityVerdict:
    chosen = ParityLimits.from_mapping(precision, limits)
    return check_parity(Model(BagEngine()), engine, TEXTS, labels, chosen)


def truth() -> list[str]:
    model = Model(BagEngine())
    logits, _ = run_sorted(model.engine, model.tokenizer.encode(TEXTS), 7)
    return ["abcde"[index] for index in logits.argmax(1)]


def test_parity_accepts_the_model_itself() -> None:
    verdict = judge(Model(BagEngine()), labels=truth())
    assert verdict.accepted
    assert (verdict.agreement, verdict.max_abs_logit, verdict.accuracy, verdict.accuracy_drop) == (1.0, 0.0, 1.0, 0.0)
    assert verdict.rows == 60
    assert verdict.invariance < 1e-5


@pytest.mark.parametrize(
    ("engine", "reason"),
    [
        (Model(BagEngine(scale=1.05)), "max_abs_logit"),
        (Model(BagEngine(), labels="abced"), "2 of 5 labels"),
        (Model(BagEngine(), labels="abcd"), "1 of 5 labels"),
        (Model(BagEngine(masked=False)), "invariance"),
        (Model(BagEngine(noise=0.05)), "mean_abs_logit"),
        (Model(BagEngine(broken=float("nan"))), "NaN or Inf"),
        (Model(BagEngine(broken=float("inf"))), "NaN or Inf"),
        (Model(BagEngine(broken=9.0)), "agreement"),
        (Model(BagEngine(), shift=1), "tokenised differently"),
    ],
)
def test_parity_refuses_a_broken_engine(engine: Model, reason: str) -> None:
    verdict = judge(engine)
    assert not verdict.accepted
    assert reason in "; ".join(verdict.reasons)
    with pytest.raises(ParityFailed, match="version 4"):
        verdict.require("version 4")


def test_parity_reports_a_significant_accuracy_drop_with_its_interval() -> None:
    limits = {"agreement": 0.0, "max_abs_logit": 99.0, "mean_abs_logit": 99.0, "invariance": 99.0}
    verdict = judge(Model(BagEngine(broken=9.0)), labels=truth(), **limits)
    assert verdict.accuracy_drop_interval is not None
    low, high = verdict.accuracy_drop_interval
    assert verdict.accuracy_drop is not None
    assert 0.0 < low <= verdict.accuracy_drop <= high
    assert [reason.split(" ")[0] for reason in verdict.reasons] == ["accuracy"]


@pytest.mark.parametrize(("flipped", "accepted"), [([8], True), ([8, 17], False)])
def test_parity_lets_one_row_of_sixty_go(flipped: list[int], accepted: bool) -> None:
    """One flipped row is 1.7 points of 60 and no evidence of a drop: the interval reaches 0. Two are too many."""
    rows = {tuple(row) for row in Words().encode([TEXTS[index] for index in flipped])}

    class Flipping(BagEngine):
        def infer(self, input_ids: Tokens, attention_mask: Tokens) -> tuple[Floats, Floats]:
            logits, embedding = super().infer(input_ids, attention_mask)
            for index, ids in enumerate(input_ids):
                if tuple(ids[: attention_mask[index].sum()]) in rows:
                    logits[index] = -logits[index]
            return logits, embedding

    verdict = judge(Model(Flipping()), labels=truth(), max_abs_logit=99.0, mean_abs_logit=99.0, invariance=99.0)
    assert round((1 - verdict.agreement) * verdict.rows) == len(flipped)
    assert verdict.accepted is accepted


def test_parity_of_an_engine_with_other_classes_is_refused_by_shape() -> None:
    class Narrow(BagEngine):
        def infer(self, input_ids: Tokens, attention_mask: Tokens) -> tuple[Floats, Floats]:
            logits, embedding = super().infer(input_ids, attention_mask)
            return logits[:, :4], embedding

    verdict = judge(Model(Narrow(), labels="abcd"))
    assert not verdict.accepted
    assert any("shape (60, 4)" in reason for reason in verdict.reasons)
    assert verdict.to_record()["max_abs_logit"] is None


def test_limits_grow_with_coarser_precision() -> None:
    fp32, bf16, int8 = (default_limits(p) for p in (Precision.FP32, Precision.BF16, Precision.INT8))
    assert fp32.max_abs_logit < bf16.max_abs_logit < int8.max_abs_logit
    assert fp32.agreement > bf16.agreement > int8.agreement


@pytest.mark.parametrize("given", [{"atol": 1.0}, {"agreement": -0.1}, {"agreement": float("nan")}])
def test_limits_unknown_or_negative_are_refused(given: dict[str, float]) -> None:
    with pytest.raises(ConfigurationError, match="unknown or negative"):
        ParityLimits.from_mapping(Precision.FP32, given)


def test_sorted_batches_give_answers_in_the_order_of_the_rows() -> None:
    model = Model(BagEngine())
    rows = model.tokenizer.encode(TEXTS)
    alone = np.concatenate([model.engine.infer(*pad([row]))[0] for row in rows])
    for batch in (1, 7, 64):
        assert np.allclose(run_sorted(model.engine, rows, batch)[0], alone, atol=1e-6)
