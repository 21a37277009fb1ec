"""The parity gate's rules, on engines small enough to see through."""

from collections.abc import Sequence

import numpy as np
import pytest

from perennial.continual.errors import ConfigurationError, ParityFailed
from perennial.exporters.batches import run_sorted
from perennial.exporters.bundle import Precision
from perennial.exporters.parity import ParityLimits, ParityVerdict, check_parity, default_limits
from perennial.exporters.text_classification.answering import TextAnswerer
from perennial.exporters.text_classification.tokens import Floats, FromTokens, Tokens, padded

TEXTS = [" ".join(f"w{(7 * i + j) % 20}" for j in range(1 + i % 9)) for i in range(60)]


class Words:
    """A tokenizer of the words w0..w19."""

    ids = 21

    def __init__(self, shift: int = 0, longest: int | None = None) -> None:
        self.shift, self.longest = shift, longest

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        return [[1 + (int(word[1:]) + self.shift) % 20 for word in text.split()][: self.longest] for text in texts]


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
        mean = vectors.sum(1) / np.maximum(mask.sum(1, keepdims=True), 1)
        embedding = (mean / np.maximum(np.linalg.norm(mean, axis=1, keepdims=True), 1e-9)).astype(np.float32)
        logits = (embedding @ self.weight).astype(np.float32)
        logits[:, 1] += np.float32(self.noise) * np.sin(1e3 * embedding[:, 0])
        logits[:, 0] += np.float32(self.broken)
        return logits, embedding


class Model(TextAnswerer):
    """An answerer of the gate."""

    def __init__(self, engine: BagEngine, labels: str = "abcde", shift: int = 0, longest: int | None = None) -> None:
        super().__init__(engine=FromTokens(engine), tokenizer=Words(shift, longest), labels=tuple(labels))


def judge(
    engine: Model, precision: Precision = Precision.FP32, labels: list[str] | None = None, **limits: float
) -> ParityVerdict:
    chosen = ParityLimits.from_mapping(precision, limits)
    return check_parity(Model(BagEngine()), engine, TEXTS, labels, chosen)


def truth() -> list[str]:
    model = Model(BagEngine())
    return model.answers(run_sorted(model.engine, model.signature, model.encode(TEXTS), 7))


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
        (Model(BagEngine(), shift=1), "encoded differently"),
    ],
)
def test_parity_refuses_a_broken_engine(engine: Model, reason: str) -> None:
    verdict = judge(engine)
    assert not verdict.accepted
    assert reason in "; ".join(verdict.reasons)
    with pytest.raises(ParityFailed, match=r"version 4 .* set another engine or a higher precision"):
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
    alone = np.concatenate([model.engine.infer(padded([row]))["logits"] for row in rows])
    for batch in (1, 7, 64):
        assert np.allclose(run_sorted(model.engine, model.signature, padded(rows), batch)["logits"], alone, atol=1e-6)


# exactly at the limits


class Flipping(BagEngine):
    """Answers some texts with the opposite logits."""

    def __init__(self, texts: Sequence[str]) -> None:
        super().__init__()
        self.rows = {tuple(row) for row in Words().encode(texts)}

    def infer(self, input_ids: Tokens, attention_mask: Tokens) -> tuple[Floats, Floats]:
        logits, embedding = super().infer(input_ids, attention_mask)
        for index, ids in enumerate(input_ids):
            if tuple(ids[: attention_mask[index].sum()]) in self.rows:
                logits[index] = -logits[index]
        return logits, embedding


FREE = {"agreement": 0.0, "max_abs_logit": 99.0, "mean_abs_logit": 99.0, "invariance": 99.0}
DIFFERENT = list(dict.fromkeys(TEXTS))


def test_limits_of_each_precision_are_those_of_the_engines_page() -> None:
    def values(precision: Precision) -> tuple[float, ...]:
        limits = default_limits(precision)
        return (
            limits.agreement, limits.max_abs_logit, limits.mean_abs_logit, limits.accuracy_drop, limits.invariance,
        )  # fmt: skip

    assert values(Precision.FP32) == (0.999, 5e-3, 5e-4, 0.001, 5e-3)
    assert values(Precision.FP16) == values(Precision.TF32) == (0.995, 0.1, 0.01, 0.002, 0.1)
    assert values(Precision.BF16) == (0.99, 0.5, 0.05, 0.003, 0.5)
    assert values(Precision.INT8) == values(Precision.FP8) == (0.98, 2.0, 0.15, 0.005, 1.0)


@pytest.mark.parametrize("figure", ["max_abs_logit", "mean_abs_logit", "invariance"])
def test_a_figure_at_its_limit_is_accepted_and_one_above_is_refused(figure: str) -> None:
    engine = Model(BatchShy(company=0.125) if figure == "invariance" else BagEngine(noise=0.01))
    seen = getattr(judge(engine, **FREE), figure)
    assert seen > 0
    assert judge(engine, **FREE | {figure: seen}).accepted
    refused = judge(engine, **FREE | {figure: seen * 0.999})
    assert [reason.split(" ")[0] for reason in refused.reasons] == [figure]


def test_figures_are_the_largest_and_the_mean_difference_over_all_logits() -> None:
    verdict = judge(Model(BagEngine(broken=0.25)), **FREE)
    assert verdict.max_abs_logit == pytest.approx(0.25, abs=1e-6)
    assert verdict.mean_abs_logit == pytest.approx(0.05, abs=1e-6)


def test_a_limit_of_zero_can_be_asked_for_and_only_what_is_given_changes() -> None:
    limits = ParityLimits.from_mapping(Precision.FP32, {"accuracy_drop": 0})
    assert (limits.accuracy_drop, limits.agreement) == (0.0, 0.999)


@pytest.mark.parametrize(("agreement", "accepted"), [(0.9, True), (0.91, False)])
def test_as_many_rows_may_disagree_as_the_limit_says(agreement: float, accepted: bool) -> None:
    picked = [text for text in DIFFERENT if TEXTS.count(text) == 1]
    flipped = picked[:6]
    verdict = judge(Model(Flipping(flipped)), **FREE | {"agreement": agreement})
    assert round((1 - verdict.agreement) * 60) == 6
    assert verdict.accepted is accepted
    assert verdict.agreement == pytest.approx(0.9)


def test_a_sure_drop_of_accuracy_is_refused_only_beyond_its_limit() -> None:
    picked = [text for text in DIFFERENT if TEXTS.count(text) == 1][:6]
    engine = Model(Flipping(picked))
    verdict = judge(engine, labels=truth(), **FREE, accuracy_drop=0.1)
    assert verdict.accuracy_drop == pytest.approx(0.1)
    assert judge(engine, labels=truth(), **FREE, accuracy_drop=verdict.accuracy_drop or 0.0).accepted
    assert not judge(engine, labels=truth(), **FREE, accuracy_drop=0.09).accepted
    assert (verdict.accuracy_reference, verdict.accuracy) == (1.0, pytest.approx(0.9))
    low, high = verdict.accuracy_drop_interval or (0.0, 0.0)
    assert low == pytest.approx(0.033, abs=0.018)  # the 2.5% and 97.5% quantiles of 60 rows at a tenth
    assert high == pytest.approx(0.183, abs=0.018)


def test_rows_won_count_against_rows_lost() -> None:
    labels = truth()
    lost = [text for text in DIFFERENT if TEXTS.count(text) == 1][:4]
    wrong = ["none" if index % 2 else label for index, label in enumerate(labels)]
    verdict = judge(Model(Flipping(lost)), labels=wrong, **FREE)
    assert verdict.accuracy_reference == 0.5
    assert verdict.accuracy_drop == pytest.approx((verdict.accuracy_reference or 0) - (verdict.accuracy or 0))


class BatchShy(BagEngine):
    """Answers otherwise in company, or when padded beyond `width`."""

    def __init__(self, *, company: float = 0.0, width: int = 99, padded: float = 0.0) -> None:
        super().__init__()
        self.company, self.width, self.padded = company, width, padded

    def infer(self, input_ids: Tokens, attention_mask: Tokens) -> tuple[Floats, Floats]:
        logits, embedding = super().infer(input_ids, attention_mask)
        if len(input_ids) > 1:
            logits = logits + np.float32(self.company)
        if input_ids.shape[1] > self.width:
            logits = logits + np.float32(self.padded)
        return logits, embedding


def test_invariance_is_the_change_of_a_row_in_company_and_under_padding() -> None:
    assert judge(Model(BatchShy(company=0.125)), **FREE).invariance == pytest.approx(0.125, abs=1e-5)
    assert judge(Model(BatchShy(width=8, padded=0.25)), **FREE).invariance == pytest.approx(0.25, abs=1e-5)
    broken = judge(Model(BatchShy(width=8, padded=float("nan"))), **FREE)
    assert not broken.accepted


def test_short_texts_are_padded_beyond_the_longest_of_them() -> None:
    texts = ["w1 w2 w3", "w4", "w5 w6"]
    limits = ParityLimits.from_mapping(Precision.FP32, FREE)
    engine = Model(BatchShy(width=3, padded=0.25))
    verdict = check_parity(Model(BagEngine()), engine, texts, None, limits)
    assert verdict.invariance == pytest.approx(0.25, abs=1e-5)
    assert verdict.max_abs_logit < 1e-5  # nothing but the padding shows it
    nan = check_parity(Model(BagEngine()), Model(BatchShy(width=3, padded=float("nan"))), texts, None, limits)
    assert nan.invariance == float("inf")
    assert not nan.accepted


def test_no_text_proves_nothing() -> None:
    class Nothing(BagEngine):
        def infer(self, input_ids: Tokens, attention_mask: Tokens) -> tuple[Floats, Floats]:
            logits, embedding = super().infer(input_ids, attention_mask)
            return logits[:, :0], embedding

    verdict = judge(Model(Nothing(), labels=""))
    assert not verdict.accepted
    assert "over 60 texts" in verdict.reasons[-1]
    assert (verdict.agreement, verdict.max_abs_logit, verdict.invariance) == (0.0, float("inf"), float("inf"))
    assert (verdict.accuracy, verdict.accuracy_drop, verdict.accuracy_drop_interval) == (None, None, None)


def test_logits_for_other_labels_than_the_engine_names_are_refused() -> None:
    verdict = judge(Model(BagEngine(), labels="abcd"))
    assert any("(60, 5) for [4]" in reason for reason in verdict.reasons)


@pytest.mark.parametrize("where", ["logits", "embedding"])
def test_rows_that_are_not_finite_are_counted(where: str) -> None:
    class Broken(BagEngine):
        def infer(self, input_ids: Tokens, attention_mask: Tokens) -> tuple[Floats, Floats]:
            logits, embedding = super().infer(input_ids, attention_mask)
            short = attention_mask.sum(1) == 1
            (logits if where == "logits" else embedding)[short, 0] = np.nan
            return logits, embedding

    short = sum(len(text.split()) == 1 for text in TEXTS)
    verdict = judge(Model(Broken()))
    assert verdict.reasons == (f"{short} rows have NaN or Inf",)


def test_a_verdict_names_what_it_compared_with_and_is_plain_in_a_manifest() -> None:
    limits = ParityLimits.from_mapping(Precision.FP32, {})
    verdict = check_parity(Model(BagEngine()), Model(BagEngine()), TEXTS, truth(), limits, reference_name="the parent")
    assert verdict.reference == "the parent"
    assert verdict.require("version 4") is verdict
    record = verdict.to_record()
    assert (record["reasons"], record["accuracy_drop_interval"], record["agreement"]) == ([], [0.0, 0.0], 1.0)
    assert record["limits"]["agreement"] == 0.999
    assert judge(Model(BagEngine())).reference == "FP32 torch model"
    assert judge(Model(BagEngine())).to_record()["accuracy_drop_interval"] is None


@pytest.mark.parametrize(("labels", "moved"), [("abcd", 1), ("abcdef", 1), ("bacdef", 3), ("abdc", 3)])
def test_labels_that_stand_elsewhere_or_are_missing_are_counted(labels: str, moved: int) -> None:
    assert judge(Model(BagEngine(), labels=labels)).reasons[0].startswith(f"{moved} of 5 labels stand at another logit")


@pytest.mark.parametrize("length", [1, 12])
def test_invariance_is_measured_on_the_shortest_and_on_the_longest_text(length: int) -> None:
    texts = ["w1", *[" ".join(["w2"] * (3 + i % 5)) for i in range(40)], " ".join(["w3"] * 12)]

    class Picky(BagEngine):
        def infer(self, input_ids: Tokens, attention_mask: Tokens) -> tuple[Floats, Floats]:
            logits, embedding = super().infer(input_ids, attention_mask)
            if len(input_ids) > 1:
                logits[attention_mask.sum(1) == length] += np.float32(0.5)
            return logits, embedding

    limits = ParityLimits.from_mapping(Precision.FP32, FREE)
    verdict = check_parity(Model(BagEngine()), Model(Picky()), texts, None, limits)
    assert verdict.invariance == pytest.approx(0.5, abs=1e-5)


@pytest.mark.parametrize(
    ("longest", "breaks_beyond", "is_broken"), [(7, 7, True), (7, 8, False), (8, 8, False), (9, 9, False)]
)
def test_texts_of_fewer_than_eight_tokens_are_padded_by_one_more(
    longest: int, breaks_beyond: int, is_broken: bool
) -> None:
    """Longer ones pad their neighbours far enough, and one more token might pass the engine's own limit."""

    class Torn(BagEngine):
        def infer(self, input_ids: Tokens, attention_mask: Tokens) -> tuple[Floats, Floats]:
            logits, embedding = super().infer(input_ids, attention_mask)
            if input_ids.shape[1] > breaks_beyond:
                logits[0, 0] = np.nan
            return logits, embedding

    texts = [" ".join(["w1"] * longest), "w2", "w3 w4"]
    limits = ParityLimits.from_mapping(Precision.FP32, FREE)
    verdict = check_parity(Model(BagEngine()), Model(Torn()), texts, None, limits)
    assert (verdict.invariance == float("inf")) == is_broken
    assert verdict.accepted == (not is_broken)


@pytest.mark.parametrize("place", [0, 19])
def test_every_row_is_as_likely_as_the_others_to_be_drawn_again(place: int) -> None:
    """One row of twenty lost: of 20 draws at 1 in 20, more than 3 lose in 1.6%, and more than 2 in 7.5%."""
    texts = [f"w{i}" for i in range(20)]
    model = Model(BagEngine())
    known = model.answers(run_sorted(model.engine, model.signature, model.encode(texts), 7))
    limits = ParityLimits.from_mapping(Precision.FP32, FREE)
    verdict = check_parity(model, Model(Flipping([texts[place]])), texts, known, limits)
    assert verdict.accuracy_drop_interval == pytest.approx((0.0, 0.15))


# what the size of the logits must not decide


class Sized(BagEngine):
    """The same answers out of logits that are `size` times as large, and `noise` of their own size beside them."""

    def __init__(self, size: float, noise: float = 0.0, shift: float = 0.0) -> None:
        super().__init__()
        self.size, self.own, self.shift = np.float32(size), np.float32(noise * size), np.float32(shift)

    def infer(self, input_ids: Tokens, attention_mask: Tokens) -> tuple[Floats, Floats]:
        logits, embedding = super().infer(input_ids, attention_mask)
        logits = logits * self.size + self.shift
        logits[:, 1] += self.own * np.sin(1e3 * embedding[:, 0])
        return logits, embedding


def sized(size: float, noise: float = 0.0, **limits: float) -> ParityVerdict:
    chosen = ParityLimits.from_mapping(Precision.FP32, limits)
    return check_parity(Model(Sized(size)), Model(Sized(size, noise)), TEXTS, None, chosen)


def test_large_logits_may_differ_by_as_much_more_as_they_are_larger() -> None:
    verdict = sized(100.0, 1e-4)
    assert verdict.max_abs_logit > 5e-3
    assert verdict.unit > 5
    assert (verdict.accepted, verdict.reasons) == (True, ())
    assert not sized(100.0, 0.05).accepted


def test_a_limit_that_was_set_by_hand_is_absolute() -> None:
    verdict = sized(100.0, 1e-4, max_abs_logit=5e-3)
    assert verdict.unit == 1.0
    assert "max_abs_logit" in verdict.reasons[0]


def test_a_difference_that_moves_no_probability_is_none() -> None:
    """All logits of a row moved together say the same."""
    limits = default_limits(Precision.FP32)
    verdict = check_parity(Model(BagEngine()), Model(Sized(1.0, shift=0.02)), TEXTS, None, limits)
    assert verdict.max_abs_logit == pytest.approx(0.02, abs=1e-5)
    assert verdict.accepted
    assert not check_parity(Model(BagEngine()), Model(Sized(1.0, shift=5.0)), TEXTS, None, limits).accepted


def test_a_tie_that_is_broken_otherwise_is_no_disagreement() -> None:
    class Twins(BagEngine):
        """Two classes that are one, and the lead of either by less than FP32 holds."""

        def __init__(self, ahead: int) -> None:
            super().__init__()
            self.weight[:, 1] = self.weight[:, 0]
            self.weight *= 0.1
            self.ahead = ahead

        def infer(self, input_ids: Tokens, attention_mask: Tokens) -> tuple[Floats, Floats]:
            logits, embedding = super().infer(input_ids, attention_mask)
            logits[:, self.ahead] += np.float32(1e-6)
            return logits, embedding

    limits = default_limits(Precision.FP32)
    verdict = check_parity(Model(Twins(0)), Model(Twins(1)), TEXTS, None, limits)
    assert (verdict.agreement, verdict.accepted) == (1.0, True)


@pytest.mark.parametrize(
    ("row", "what"),
    [("long", "a text beyond the limit"), ("empty", "an empty text"), ("last", "a row of the tokenizer's last ids")],
)
def test_an_engine_that_breaks_at_an_edge_is_refused_though_no_text_is_there(row: str, what: str) -> None:
    class Torn(BagEngine):
        def infer(self, input_ids: Tokens, attention_mask: Tokens) -> tuple[Floats, Floats]:
            logits, embedding = super().infer(input_ids, attention_mask)
            hit = {
                "long": attention_mask.sum(1) == 30,
                "empty": attention_mask.sum(1) == 0,
                "last": (input_ids >= 19).all(axis=1),
            }[row]
            logits[hit, 2] += 5.0
            return logits, embedding

    texts = [text for text in TEXTS if "w19" not in text and "w18" not in text]
    given, torn = Model(BagEngine(), longest=30), Model(Torn(), longest=30)
    verdict = check_parity(given, torn, texts, None, default_limits(Precision.FP32))
    assert [reason.split(" differs")[0] for reason in verdict.reasons] == [what]
