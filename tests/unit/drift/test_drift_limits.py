"""What happens exactly at the drift rule's limits, and what each number is a number of."""

import json
import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from perennial.continual.drift import (
    DriftComparison,
    DriftMonitor,
    DriftSettings,
    Level,
    MonitorState,
    ReferenceProfile,
    Signal,
    SignalResult,
    Votes,
    Window,
    alpha_for,
    compare,
)
from perennial.continual.drift.accuracy import (
    AccuracyEstimate,
    ConfidenceCalibration,
    GivenLabel,
    ResolvedLabels,
    SampledAnswer,
    estimate_accuracy,
    in_random_share,
    measure_accuracy,
    resolve_labels,
)
from perennial.continual.drift.compare import holm, measure, signals_of
from perennial.continual.drift.reference import WordsBy
from perennial.continual.drift.sequential import EDetector, EDetectorState, abstained, doubt, upper_bound
from perennial.continual.drift.statistics import StatisticResult
from perennial.continual.drift.window import non_letter_share, text_shape, words_of
from perennial.continual.errors import ConfigurationError, DataError
from tests.unit.drift.generated import traffic


def columns(n: int, **changes: object) -> Window:
    given: dict[str, object] = {
        "text": [f"text {i}" for i in range(n)],
        "prediction": ["a"] * n,
        "confidence": np.linspace(0, 1, n),
        "margin": np.linspace(0.2, 0.8, n),
        "entropy": np.linspace(3, 1, n),
        "version": [1] * n,
        "prediction_id": [f"p{i}" for i in range(n)],
    }
    return Window.from_columns(given | changes)


def comparison(
    *found: tuple[float, float], alpha: float = 0.02, rows: int = 300, drifted: bool = False
) -> DriftComparison:
    """A comparison with one signal for each (adjusted p, effect); floors are 0.1."""
    signals = tuple(
        SignalResult(
            signal=signal,
            method="ks",
            result=StatisticResult(statistic=0.5, p_value=p, effect=effect, floor=0.1, n_reference=600, n_current=rows),
            adjusted_p=p,
            drifted=drifted,
        )
        for signal, (p, effect) in zip(Signal, found, strict=False)
    )
    return DriftComparison(
        version=1, n_reference=600, n_current=rows, alpha=alpha, permutations=99, seed=1, signals=signals
    )


# release


@pytest.mark.parametrize(
    ("found", "released"),
    [
        ([(0.0799, 0.5)], False),  # below four times the level, and the effect is large
        ([(0.08, 0.5)], True),  # at the release level
        ([(0.001, 0.0499)], True),  # sure, but under the release floor
        ([(0.001, 0.05)], False),  # at the release floor
        ([(0.9, 0.5), (0.001, 0.5)], False),  # one signal is enough to hold
        ([(0.9, 0.5), (0.001, 0.01)], True),
        ([], True),
    ],
)
def test_a_warning_ends_when_every_signal_is_clean_by_the_release_level(
    found: list[tuple[float, float]], released: bool
) -> None:
    settings = DriftSettings(release=4.0, release_floor=0.5)
    assert comparison(*found, alpha=0.02).released(settings) is released


def test_a_release_level_is_never_looser_than_a_coin() -> None:
    settings = DriftSettings(release=100.0)
    assert comparison((0.5, 0.5), alpha=0.02).released(settings)
    assert not comparison((0.49, 0.5), alpha=0.02).released(settings)


def test_the_rule_of_a_workspace_that_sets_none_is_the_one_that_the_page_states() -> None:
    rule = DriftSettings()
    assert (rule.requests_per_false_retraining, rule.votes, rule.min_rows) == (100_000, Votes.TWO_OF_THREE, 100)
    assert (rule.cooldown_requests, rule.release, rule.release_floor) == (1_000, 4.0, 0.8)
    assert {signal.value: floor for signal, floor in rule.floors.items()} == {
        "confidence": 0.05,
        "entropy": 0.1,
        "prediction": 0.3,
        "length": 0.05,
        "non_letter": 0.05,
        "unknown_words": 0.05,
        "embedding": 0.01,
        "domain": 0.06,
        "hit_rate": 0.15,
        "popularity": 0.05,
        "new_items": 0.15,
        "brightness": 0.05,
        "size": 0.05,
    }
    assert [(votes.needed, votes.among) for votes in Votes] == [(2, 3), (3, 5)]


@pytest.mark.parametrize(
    ("name", "allowed", "refused"),
    [
        ("requests_per_false_retraining", 1_000, 999),
        ("min_rows", 20, 19),
        ("cooldown_requests", 0, -1),
        ("release", 1.0, 0.99),
        ("release_floor", 1.0, 1.01),
        ("release_floor", 0.01, 0.0),
        ("floors", dict.fromkeys(Signal, 0.0), dict.fromkeys(Signal, -0.1)),
        ("floors", dict.fromkeys(Signal, 0.5), dict.fromkeys(list(Signal)[1:], 0.5)),
    ],
)
def test_settings_are_allowed_to_their_limits(name: str, allowed: object, refused: object) -> None:
    assert getattr(DriftSettings(**{name: allowed}), name) == allowed  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="floors" if name == "floors" else name):
        DriftSettings(**{name: refused})  # type: ignore[arg-type]


@pytest.mark.parametrize("votes", list(Votes))
@pytest.mark.parametrize("requests", [20_000, 1_000_000])
def test_the_level_solves_the_stated_equation(votes: Votes, requests: int) -> None:
    """Windows x C(m - 1, k - 1) x P(k windows with one reference all alarm) is one false alert."""
    level = alpha_for(requests, votes=votes, n_reference=600, n_current=300)
    together = np.full((votes.needed, votes.needed), 1 / 3) + 2 / 3 * np.eye(votes.needed)
    critical = stats.norm.isf(level / 2)
    chance = 0.0  # of every pattern of signs
    for signs in np.ndindex(*[2] * votes.needed):
        turn = np.array([1 if sign else -1 for sign in signs])
        chance += stats.multivariate_normal(cov=together * np.outer(turn, turn)).cdf(np.full(votes.needed, -critical))
    ways = math.comb(votes.among - 1, votes.needed - 1)
    expected = requests / 300 * ways * chance
    assert expected == pytest.approx(1.0, rel=0.02) if level < 0.05 else expected <= 1.0


def test_the_level_is_never_above_a_twentieth() -> None:
    assert alpha_for(1_000, votes=Votes.THREE_OF_FIVE, n_reference=600, n_current=300) == 0.05
    settings = DriftSettings(requests_per_false_retraining=50_000, votes=Votes.THREE_OF_FIVE)
    assert settings.alpha(n_reference=900, n_current=200) == alpha_for(
        50_000, votes=Votes.THREE_OF_FIVE, n_reference=900, n_current=200
    )


# reference


def test_unknown_words_are_measured_on_the_half_that_the_vocabulary_does_not_come_from() -> None:
    """When every text has a word of its own, that word is unknown in the other half: clean traffic is treated alike."""
    window = columns(40, text=[f"w{chr(97 + i // 20)}{chr(97 + i % 20)}" for i in range(40)])
    profile = ReferenceProfile.build(window, version=1, rng=np.random.default_rng(1))
    assert len(profile.vocabulary) == len(profile.unknown_shares) == 20
    assert profile.unknown_shares.tolist() == [1.0] * 20
    assert sorted(profile.unknown_shares_of(window).tolist()) == [0.0] * 20 + [1.0] * 20
    assert profile.unknown_shares_of(columns(2, text=["", "12 !"])).tolist() == [0.0, 0.0]
    half = profile.unknown_shares_of(columns(40, text=[f"{text} {text} never" for text in window.texts]))
    assert sorted(set(half.tolist())) == [pytest.approx(1 / 3), 1.0]


ZH = "银行 卡 转账 密码 手续费 余额 贷款 利息 提现 失败 丢失 还款 账单 扣款 汇率".replace(" ", "")


def chinese(rows: int, rng: np.random.Generator, *, new: str = "") -> Window:
    """Texts without spaces out of the letters of banking, or of others."""
    letters = list(new or ZH)
    texts = ["".join(rng.choice(letters, 12)) + "。" for _ in range(rows)]
    return columns(rows, text=texts)


@pytest.mark.parametrize("new", ["天气很好今天下雨明出太阳", "Пожалуйста ", "บัตรของฉันหาย", "कृपया मेरा "])
def test_unknown_words_are_seen_where_none_are_set_apart_by_spaces(new: str) -> None:
    rng = np.random.default_rng(5)
    reference = ReferenceProfile.build(chinese(400, rng), version=1, rng=rng)
    measured = [
        measure(Signal.UNKNOWN_WORDS, reference, window, seed=1, permutations=99, floor=0.05)
        for window in (chinese(300, rng), chinese(300, rng, new=new))
    ]
    assert [result.relevant and result.p_value < 0.001 for result in measured] == [False, True]


def test_a_reference_of_an_earlier_release_goes_on_with_its_own_words(tmp_path: Path) -> None:
    texts = [f"我的卡{letter} lost" for letter in ZH]
    new = ReferenceProfile.build(columns(len(texts), text=texts), version=1, rng=np.random.default_rng(1))
    old = replace(new, cut=WordsBy.RUNS, vocabulary=frozenset({"e5705c6fb7fee11e"}), salt="0011223344556677")
    old.save(tmp_path / "reference")
    facts = json.loads((tmp_path / "reference" / "profile.json").read_text())
    assert facts.pop("words_by") == "runs"
    (tmp_path / "reference" / "profile.json").write_text(json.dumps(facts))
    read = ReferenceProfile.load(tmp_path / "reference")
    assert read.unknown_shares_of(columns(2, text=["我的卡 card", "我的卡"])).tolist() == [0.5, 1.0]
    new.save(tmp_path / "reference")
    assert ReferenceProfile.load(tmp_path / "reference").cut is WordsBy.WORDS


def test_digests_of_words_are_the_same_in_every_release() -> None:
    """A stored vocabulary holds digests alone: were they made otherwise tomorrow, every word would be unknown."""
    profile = ReferenceProfile.build(columns(20), version=1, rng=np.random.default_rng(1))
    stored = replace(profile, salt="0011223344556677", vocabulary=frozenset({"e5705c6fb7fee11e"}))
    assert stored.unknown_shares_of(columns(2, text=["Card", "card lost"])).tolist() == [0.0, 0.5]


def test_quantiles_are_those_of_every_row_and_not_only_of_the_sample() -> None:
    window = columns(301, text=["ab 1!"] * 301)
    profile = ReferenceProfile.build(window, version=1, rng=np.random.default_rng(1), rows=50)
    assert {name: len(values) for name, values in profile.quantiles.items()} == dict.fromkeys(
        ("confidence", "entropy", "margin", "length", "non_letter"), 101
    )
    for name, low, middle, high in (
        ("confidence", 0.0, 0.5, 1.0),
        ("entropy", 1.0, 2.0, 3.0),
        ("margin", 0.2, 0.5, 0.8),
        ("length", 2.0, 2.0, 2.0),
        ("non_letter", 0.4, 0.4, 0.4),
    ):
        assert profile.quantiles[name][[0, 50, 100]] == pytest.approx([low, middle, high], abs=1e-6)
    assert len(profile.sample) == 50
    times = profile.sample.ids
    assert times is not None
    assert [int(name[1:]) for name in times] == sorted(int(name[1:]) for name in times)


def test_a_sample_is_only_drawn_where_there_are_more_rows_than_asked_for() -> None:
    rng = np.random.default_rng(1)
    assert ReferenceProfile.build(columns(20), version=1, rng=rng, rows=20).sample.ids is not None
    assert len(ReferenceProfile.build(columns(2_001), version=1, rng=rng).sample) == 2_000
    drawn = ReferenceProfile.build(columns(40), version=1, rng=rng, rows=30).sample
    assert len(set(drawn.texts.tolist())) == 30


def test_a_reference_is_whole_again_after_its_folder_and_replaces_what_lay_there(tmp_path: Path) -> None:
    window = traffic(60, np.random.default_rng(1))
    profile = ReferenceProfile.build(window, version=1, rng=np.random.default_rng(2))
    folder = tmp_path / "reference"
    folder.mkdir()
    (folder / "old").write_text("x", encoding="utf-8")
    profile.save(folder)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["profile.json", "reference", "sample.npz"]
    again = ReferenceProfile.load(folder)
    assert (again.version, again.seen_rows, again.salt) == (1, 60, profile.salt)
    assert again.unknown_shares.tolist() == profile.unknown_shares.tolist()
    assert {name: values.tolist() for name, values in again.quantiles.items()} == {
        name: values.tolist() for name, values in profile.quantiles.items()
    }


# comparison


_OF_OTHERS = {  # what these windows have nothing of
    Signal.HIT_RATE,
    Signal.POPULARITY,
    Signal.NEW_ITEMS,
    Signal.BRIGHTNESS,
    Signal.SIZE,
}
_OF_A_TEXT = tuple(signal for signal in Signal if signal not in _OF_OTHERS)


def _pair(rows: int = 200, **changes: object) -> tuple[ReferenceProfile, Window]:
    rng = np.random.default_rng(5)
    reference = ReferenceProfile.build(traffic(300, rng), version=1, rng=rng)
    return reference, replace(traffic(rows, rng), **changes)  # type: ignore[arg-type]


def test_each_signal_compares_the_reference_with_the_window_and_says_how() -> None:
    reference, window = _pair()
    settings = DriftSettings(requests_per_false_retraining=20_000)
    found = {s.signal: s for s in compare(reference, window, settings, np.random.default_rng(1)).signals}
    sizes = {signal: (s.result.n_reference, s.result.n_current) for signal, s in found.items()}
    assert sizes == {signal: (150 if signal is Signal.UNKNOWN_WORDS else 300, 200) for signal in _OF_A_TEXT}
    assert {signal.value: s.method for signal, s in found.items()} == {
        "confidence": "ks",
        "entropy": "wasserstein",
        "prediction": "chi_square",
        "length": "ks",
        "non_letter": "ks",
        "unknown_words": "ks",
        "embedding": "rff_mmd",
        "domain": "classifier_auc",
    }
    assert {signal: s.result.floor for signal, s in found.items()} == {one: settings.floors[one] for one in _OF_A_TEXT}
    assert abs(found[Signal.DOMAIN].result.statistic - 0.5) < 0.1 > abs(found[Signal.EMBEDDING].result.statistic)
    assert found[Signal.PREDICTION].result.n_reference == 300


@pytest.mark.parametrize(
    ("signal", "changes"),
    [
        (Signal.CONFIDENCE, {"confidences": np.full(200, 0.1, np.float32)}),
        (Signal.ENTROPY, {"entropies": np.full(200, 9.0, np.float32)}),
        (Signal.PREDICTION, {"predictions": np.array(["new"] * 200)}),
        (Signal.LENGTH, {"lengths": np.full(200, 99, np.int32)}),
        (Signal.NON_LETTER, {"texts": np.array(["12345 !!! i lost"] * 200, dtype=object)}),
        (Signal.UNKNOWN_WORDS, {"texts": np.array(["mortgage lender deposit"] * 200, dtype=object)}),
    ],
)
def test_a_signal_drifts_when_its_own_column_does(signal: Signal, changes: dict[str, object]) -> None:
    reference, window = _pair(**changes)
    result = measure(signal, reference, window, seed=1, permutations=199, floor=0.05)
    assert result.relevant
    assert result.p_value <= 0.005


def test_signals_without_embeddings_on_either_side_cannot_be_measured() -> None:
    reference, window = _pair()
    bare_window = replace(window, embeddings=None)
    bare_reference = replace(reference, sample=replace(reference.sample, embeddings=None))
    for one, other in ((reference, bare_window), (bare_reference, window), (bare_reference, bare_window)):
        assert signals_of(one, other) == tuple(Signal)[:6]
        with pytest.raises(DataError, match="needs embeddings on both sides"):
            measure(Signal.EMBEDDING, one, other, seed=1, permutations=9, floor=0.1)
    assert signals_of(reference, window) == _OF_A_TEXT


def test_texts_of_a_large_window_are_sampled_and_its_numbers_are_not() -> None:
    reference, _ = _pair()
    window = columns(2_001)
    for seed in (1, 2):
        found = measure(Signal.NON_LETTER, reference, window, seed=seed, permutations=9, floor=0.1)
        assert found.n_current == 2_000
        assert found == measure(Signal.NON_LETTER, reference, window, seed=seed, permutations=9, floor=0.1)
    assert measure(Signal.NON_LETTER, reference, columns(2_000), seed=1, permutations=9, floor=0.1).n_current == 2_000
    assert measure(Signal.CONFIDENCE, reference, window, seed=1, permutations=9, floor=0.1).n_current == 2_001


@pytest.mark.parametrize(
    ("requests", "permutations"), [(1_000, (499, 499)), (100_000, (700, 760)), (10**9, (9_999, 9_999))]
)
def test_permutations_can_reach_half_the_level_after_holm_within_bounds(
    requests: int, permutations: tuple[int, int]
) -> None:
    """With eight signals the smallest p-value, 8 / (permutations + 1), lies at half the level or below."""
    rng = np.random.default_rng(1)
    reference = ReferenceProfile.build(traffic(600, rng), version=1, rng=rng)
    found = compare(
        reference, traffic(300, rng), DriftSettings(requests_per_false_retraining=requests), np.random.default_rng(1)
    )
    assert permutations[0] <= found.permutations <= permutations[1]
    if 499 < found.permutations < 9_999:
        assert 8 / (found.permutations + 1) <= found.alpha / 2 < 8 / (found.permutations - 1)


def test_signals_come_strongest_first() -> None:
    rng = np.random.default_rng(2)
    reference = ReferenceProfile.build(traffic(400, rng), version=1, rng=rng)
    for new in (0.1, 0.6):
        found = compare(reference, traffic(200, rng, new=new), DriftSettings(), rng).signals
        ranks = [(not s.drifted, s.adjusted_p, -s.result.effect / s.result.floor) for s in found]
        assert ranks == sorted(ranks)


def test_a_window_of_exactly_the_least_rows_is_compared() -> None:
    reference, window = _pair(100)
    found = compare(reference, replace(window, embeddings=None), DriftSettings(min_rows=100), np.random.default_rng(1))
    assert (found.n_reference, found.n_current, found.version) == (300, 100, 1)


def test_holm_is_capped_at_one_and_worked_by_hand() -> None:
    raw = {Signal.CONFIDENCE: 0.01, Signal.ENTROPY: 0.04, Signal.LENGTH: 0.03, Signal.DOMAIN: 0.9}
    assert holm(raw) == pytest.approx(
        {Signal.CONFIDENCE: 0.04, Signal.LENGTH: 0.09, Signal.ENTROPY: 0.09, Signal.DOMAIN: 0.9}
    )
    assert holm({Signal.CONFIDENCE: 0.6, Signal.ENTROPY: 0.7}) == {Signal.CONFIDENCE: 1.0, Signal.ENTROPY: 1.0}


# monitor


def test_a_cooldown_lasts_its_requests_and_not_one_longer() -> None:
    monitor = DriftMonitor(settings=DriftSettings(cooldown_requests=600))
    state = monitor.start(1)
    drifting, clean = comparison((1e-6, 0.5), drifted=True), comparison((0.9, 0.0))
    for end in (300, 600):
        state, signal = monitor.update(state, drifting, end)
    assert (state.level, signal.alert, state.cooldown_until, state.recent) == (Level.ALERT, True, 1_200, ())
    early, _ = monitor.update(state, clean, 1_199)
    assert (early.level, early.recent) == (Level.COOLDOWN, ())
    assert monitor.update(state, clean, 1_200)[0].level is Level.OK
    going_on, _ = monitor.update(state, drifting, 1_200)
    assert (going_on.level, going_on.recent, going_on.in_episode) == (Level.WARNING, (True,), True)


def test_a_window_may_begin_where_the_last_one_ended() -> None:
    monitor = DriftMonitor(settings=DriftSettings())
    state = monitor.start(1, now_request=100, episode=4)
    assert (state.last_request, state.episode) == (100, 4)
    assert monitor.update(state, comparison((0.9, 0.0)), 400)[0].last_request == 400
    with pytest.raises(DataError, match="must not overlap"):
        monitor.update(state, comparison((0.9, 0.0)), 399)


def test_a_signal_tells_votes_and_what_drifted() -> None:
    monitor = DriftMonitor(settings=DriftSettings())
    state, signal = monitor.update(monitor.start(1), comparison((1e-6, 0.5), (1e-6, 0.5), drifted=True), 300)
    assert signal.reason == "1 of the last 3 windows drifted; this one in confidence, entropy (level 0.0200)"
    assert (signal.votes, signal.at_request, signal.episode) == (1, 300, 0)
    assert (signal.level, signal.previous, signal.changed, signal.alert) == (Level.WARNING, Level.OK, True, False)
    state, signal = monitor.update(state, comparison((0.9, 0.0)), 600)
    assert signal.reason.startswith("1 of the last 3 windows drifted; this one in no signal")
    assert not signal.changed
    assert state.windows == 2


def test_a_monitor_begins_with_nothing_seen() -> None:
    assert MonitorState(version=1) == MonitorState(
        version=1, level=Level.OK, recent=(), episode=0, in_episode=False, windows=0, last_request=0, cooldown_until=0
    )
    assert DriftMonitor(settings=DriftSettings()).start(3) == MonitorState(version=3)


# labelled errors, one at a time


def test_an_e_detector_is_a_sum_of_bets_that_begins_anew_after_an_alarm() -> None:
    detector = EDetector(bound=0.2, run_length=30)
    values = [0.0, 1.0, 0.5, 1.0, 1.0, 1.0, 0.0, 1.0]
    evidence, alarms = np.zeros(4), []
    for place, value in enumerate(values, start=1):
        evidence = (evidence + 1) * (1 + np.array([0.05, 0.1, 0.2, 0.4]) / 0.2 * (value - 0.2))
        if evidence.mean() >= 30:
            alarms.append(place)
            evidence = np.zeros(4)
    state, found = detector.update(detector.start(), values)
    assert found == tuple(alarms)
    assert alarms
    assert state.evidence == pytest.approx(evidence.tolist())
    assert state.value == pytest.approx(evidence.mean())
    assert (state.seen, state.total, state.alarms, state.last_alarm) == (8, 5.5, len(alarms), alarms[-1])
    later, none = detector.update(state, [0.0])
    assert (later.seen, later.total, later.last_alarm, none) == (9, 5.5, alarms[-1], ())
    assert detector.update(state, [])[0] == state
    assert detector.start() == EDetectorState(seen=0, total=0.0, evidence=(0.0,) * 4, alarms=0, last_alarm=None)


def test_evidence_without_end_stays_a_number() -> None:
    detector = EDetector(bound=0.001, run_length=1e308)
    state, alarms = detector.update(detector.start(), np.ones(400))
    assert np.isfinite(state.evidence).all()
    assert max(state.evidence) == 1e300
    assert alarms == ()


def test_an_alarm_comes_at_the_run_length_exactly() -> None:
    """One value at the bound is an even bet: the evidence is 1 after it, 2 after the next."""
    state, alarms = EDetector(bound=0.5, run_length=2).update(EDetector(bound=0.5, run_length=2).start(), [0.5, 0.5])
    assert alarms == (2,)
    assert state.evidence == (0.0,) * 4


@pytest.mark.parametrize("wrong", [{"bound": 0.0}, {"bound": 1.0}, {"run_length": 1.9}])
def test_an_e_detector_that_could_never_tell_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(DataError, match="e-detector's"):
        EDetector(**{"bound": 0.5, "run_length": 100} | wrong)
    assert EDetector(bound=0.999, run_length=2).run_length == 2


@pytest.mark.parametrize("bad", [[-0.01], [1.01], [float("nan")], [float("inf")]])
def test_values_outside_their_range_are_refused(bad: list[float]) -> None:
    detector = EDetector(bound=0.5, run_length=100)
    with pytest.raises(DataError, match=r"\[0, 1\]"):
        detector.update(detector.start(), bad)


def test_an_upper_bound_is_clopper_pearsons_for_hits_and_bernsteins_for_shares() -> None:
    hits = [1.0] * 7 + [0.0] * 43
    assert stats.binom.cdf(7, 50, upper_bound(hits)) == pytest.approx(0.05)
    assert stats.binom.cdf(7, 50, upper_bound(hits, miss=0.2)) == pytest.approx(0.2)
    shares = np.linspace(0.05, 0.35, 200)
    log = np.log(2 / 0.1)
    assert upper_bound(shares, miss=0.1) == pytest.approx(
        0.2 + np.sqrt(2 * shares.var(ddof=1) * log / 200) + 7 * log / (3 * 199)
    )
    assert upper_bound([1.0, 1.0]) == 1 - 1e-6
    assert upper_bound([0.5, 1.0]) == 1 - 1e-6
    assert stats.binom.cdf(0, 2, upper_bound([0.0, 0.0])) == pytest.approx(0.05)
    for bad in ([0.5], [0.5, 1.1], [-0.1, 0.5], [0.5, float("nan")]):
        with pytest.raises(DataError, match="at least 2 values"):
            upper_bound(bad)


def test_watched_values_stay_in_their_range() -> None:
    assert doubt(np.array([1.2, 0.3, -0.1])).tolist() == [0.0, 0.7, 1.0]
    assert abstained(np.array([0.5, 0.49]), 0.5).tolist() == [0.0, 1.0]


# accuracy


def test_an_estimated_accuracy_has_the_binomial_interval_inside_0_and_1() -> None:
    estimate = estimate_accuracy(np.full(100, 0.8))
    assert (estimate.low, estimate.high) == pytest.approx((0.8 - 0.0784, 0.8 + 0.0784))
    assert (estimate.rows, estimate.contested) == (100, 0)
    sure = estimate_accuracy(np.array([0.99, 0.99]))
    assert (sure.high, sure.low) == (1.0, pytest.approx(0.99 - 1.96 * np.sqrt(0.0099 / 2)))
    assert estimate_accuracy(np.array([0.01, 0.01])).low == 0.0
    assert estimate_accuracy(np.array([0.5])).rows == 1


def test_a_calibration_needs_twenty_answers_and_stays_a_chance() -> None:
    confidence = np.linspace(0.1, 0.9, 20)
    calibration = ConfidenceCalibration.fit(confidence, confidence > 0.5)
    assert calibration(np.array([-1.0, 0.0, 1.0, 9.0])).tolist() == [0.0, 0.0, 1.0, 1.0]
    for confidences, correct in ((confidence[:19], np.ones(19)), (confidence, np.ones(19))):
        with pytest.raises(DataError, match="20 or more"):
            ConfidenceCalibration.fit(confidences, correct)


START = datetime(2026, 1, 1, tzinfo=UTC)


def given(prediction: str, label: str, annotator: str = "x", hour: int = 0) -> GivenLabel:
    return GivenLabel(prediction_id=prediction, label=label, annotator=annotator, at=START + timedelta(hours=hour))


def test_labels_count_up_to_the_asked_time_and_corrections_are_counted_once() -> None:
    labels = [
        given("p", "a"),
        given("p", "b", hour=2),
        given("p", "b", hour=3),
        given("q", "a"),
        given("q", "a", hour=1),
    ]
    assert resolve_labels(labels, until=START + timedelta(hours=2)).labels == {"p": "b", "q": "a"}
    assert resolve_labels(labels, until=START + timedelta(hours=1)).labels == {"p": "a", "q": "a"}
    assert resolve_labels(labels).corrected == 1
    assert resolve_labels([]) == ResolvedLabels(labels={}, contested=frozenset(), corrected=0)


def test_a_majority_decides_and_a_tie_at_the_top_is_contested() -> None:
    votes = [given("p", "a", "1"), given("p", "a", "2"), given("p", "b", "3"), given("p", "c", "4")]
    assert resolve_labels(votes).labels == {"p": "a"}
    assert resolve_labels([*votes, given("p", "b", "5")]).contested == {"p"}
    assert resolve_labels([given("p", "a", "1"), given("p", "b", "2"), given("p", "c", "3")]).contested == {"p"}


def test_labels_of_one_annotator_at_one_time_are_decided_alike_in_any_order() -> None:
    pair = [given("p", "a"), given("p", "b")]
    assert resolve_labels(pair).labels == resolve_labels(pair[::-1]).labels == {"p": "b"}


@pytest.mark.parametrize("chance", [0.0, -0.1, 1.01, float("nan")])
def test_a_chance_of_being_picked_lies_above_0_and_at_most_at_1(chance: float) -> None:
    with pytest.raises(DataError, match=r"give \(0, 1\]"):
        SampledAnswer(prediction_id="p", predicted="a", chance=chance)
    assert SampledAnswer(prediction_id="p", predicted="a", chance=1.0).chance == 1.0


def test_contested_answers_widen_the_interval_by_their_weight() -> None:
    answers = [SampledAnswer(prediction_id=str(i), predicted="a", chance=0.25 if i < 10 else 0.5) for i in range(50)]
    split = {str(i) for i in range(5, 15)}
    agreed = {str(i): "a" if i % 4 else "b" for i in range(50) if str(i) not in split}
    alone = measure_accuracy(answers, ResolvedLabels(labels=agreed, contested=frozenset(), corrected=0))
    wide = measure_accuracy(answers, ResolvedLabels(labels=agreed, contested=frozenset(split), corrected=0))
    share = (5 * 4 + 5 * 2) / (10 * 4 + 40 * 2)
    assert wide.low == pytest.approx(alone.low * (1 - share))
    assert wide.high == pytest.approx(alone.high * (1 - share) + share)
    assert (wide.value, wide.rows, wide.contested, alone.contested) == (alone.value, 40, 10, 0)
    assert AccuracyEstimate(value=0.5, low=0.4, high=0.6, rows=3, assumption="none").contested == 0


def test_a_random_share_of_all_is_everything_and_of_nothing_none() -> None:
    names = [f"prediction {i}" for i in range(500)]
    assert all(in_random_share(name, 1.0) for name in names)
    assert not any(in_random_share(name, 0.0) for name in names)
    assert {name for name in names if in_random_share(name, 0.1)} < {
        name for name in names if in_random_share(name, 0.3)
    }


# windows


def test_a_text_is_described_by_its_shape() -> None:
    assert text_shape("") == (0, 0, 0, 0.0)
    assert text_shape("One. Two!  ... three?") == (21, 4, 3, pytest.approx(6 / 21))
    assert non_letter_share("") == 0.0
    assert words_of("Grüße, 3 x_y's") == ["grüße", "x", "y", "s"]


def test_a_window_without_its_texts_keeps_their_shapes() -> None:
    window = columns(3, text=["ab 1!", "Help. Me!", ""])
    bare = window.without_texts()
    assert bare.texts.tolist() == ["", "", ""]
    assert bare.text_shapes.tolist() == window.text_shapes.tolist()
    assert bare.non_letters.tolist() == [0.4, pytest.approx(2 / 9), 0.0]
    assert bare.rows([1]).non_letters.tolist() == [pytest.approx(2 / 9)]
    assert columns(0).text_shapes.shape == (0, 4)


def test_rows_of_a_window_are_taken_by_place_and_slice() -> None:
    window = columns(5, version=[1, 2, 1, 2, 2], embedding=np.eye(5))
    assert window.rows([3, 0]).texts.tolist() == ["text 3", "text 0"]
    assert window.rows(slice(1, 3)).versions.tolist() == [2, 1]
    assert window.rows([4]).embeddings.tolist() == [[0, 0, 0, 0, 1]]  # type: ignore[union-attr]
    assert window.rows([4]).times is None


def test_embeddings_are_a_matrix_of_floats_or_left_out() -> None:
    assert columns(2, embedding=np.array([[1, 2], [3, 4]])).embeddings.dtype == np.float32  # type: ignore[union-attr]
    assert columns(2, embedding=np.ones((2, 3), np.float16)).embeddings.dtype == np.float16  # type: ignore[union-attr]
    assert columns(2, embedding=[[1.0], None]).embeddings is None
    assert columns(2, embedding=np.array([[1.0], None], dtype=object)).embeddings is None
    assert columns(0, embedding=[]).embeddings is None
    with pytest.raises(DataError, match=r"shape \(2,\)"):
        columns(2, embedding=np.ones(2, np.float32))


def test_times_are_utc_in_microseconds() -> None:
    times = columns(2, at=[START, START + timedelta(microseconds=7)]).times
    assert times is not None
    assert [str(moment) for moment in times] == ["2026-01-01T00:00:00.000000", "2026-01-01T00:00:00.000007"]
    assert str(columns(1, at=[START]).times[0]) == "2026-01-01T00:00:00.000000"  # type: ignore[index]
    assert columns(2).times is None


def test_a_window_that_lies_in_no_file_or_a_broken_one_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        Window.load(tmp_path / "none.npz")
    columns(3).save(tmp_path / "sub" / "w.npz")
    again = Window.load(tmp_path / "sub" / "w.npz")
    assert again.texts.tolist() == ["text 0", "text 1", "text 2"]
    assert again.margins.tolist() == columns(3).margins.tolist()
