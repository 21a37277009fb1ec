import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from perennial.continual.drift import (
    DriftComparison,
    DriftSettings,
    ReferenceProfile,
    Signal,
    Votes,
    Window,
    alpha_for,
    compare,
)
from perennial.continual.drift.compare import holm, measure
from perennial.continual.drift.reference import forget_rows
from perennial.continual.drift.window import words_of
from perennial.continual.errors import ConfigurationError, DataError
from tests.unit.drift.generated import traffic

pytestmark = pytest.mark.slow


def _reference(rows: int = 500) -> ReferenceProfile:
    rng = np.random.default_rng(1)
    return ReferenceProfile.build(traffic(rows, rng), version=1, rng=rng)


def test_compare_finds_new_intents_and_ranks_drifted_signals_first() -> None:
    rng = np.random.default_rng(2)
    comparison = compare(_reference(), traffic(300, rng, new=0.3), DriftSettings(), rng)
    assert comparison.drifted
    assert {Signal.CONFIDENCE, Signal.EMBEDDING, Signal.UNKNOWN_WORDS} <= set(comparison.drifted_signals)
    assert [s.drifted for s in comparison.signals] == sorted((s.drifted for s in comparison.signals), reverse=True)


@pytest.mark.slow
def test_compare_is_quiet_on_clean_windows() -> None:
    rng = np.random.default_rng(3)
    reference = _reference()
    drifted = [compare(reference, traffic(200, rng), DriftSettings(), rng).drifted for _ in range(8)]
    assert sum(drifted) <= 1


def test_compare_repeats_itself_from_its_seed_and_survives_json() -> None:
    rng = np.random.default_rng(4)
    reference, window = _reference(), traffic(200, rng, new=0.2)
    comparison = compare(reference, window, DriftSettings(), rng)
    for signal in comparison.signals:
        again = measure(
            signal.signal,
            reference,
            window,
            seed=comparison.seed,
            permutations=comparison.permutations,
            floor=signal.result.floor,
        )
        assert again == signal.result
    assert DriftComparison.from_json(comparison.to_json()) == comparison


def test_compare_without_embeddings_leaves_their_signals_out() -> None:
    rng = np.random.default_rng(5)
    window = traffic(200, rng)
    bare = Window(**{name: None if name == "embeddings" else getattr(window, name) for name in window.__slots__})
    signals = {s.signal for s in compare(_reference(), bare, DriftSettings(), rng).signals}
    others = {Signal.HIT_RATE, Signal.POPULARITY, Signal.NEW_ITEMS, Signal.BRIGHTNESS, Signal.SIZE}
    assert signals == set(Signal) - {Signal.EMBEDDING, Signal.DOMAIN} - others


def test_compare_refuses_a_small_window_and_another_version() -> None:
    rng = np.random.default_rng(6)
    with pytest.raises(DataError, match="wait for at least 100"):
        compare(_reference(), traffic(99, rng), DriftSettings(), rng)
    with pytest.raises(DataError, match=r"versions \[2\]"):
        compare(_reference(), traffic(200, rng, version=2), DriftSettings(), rng)


def test_an_effect_below_its_floor_is_no_drift_however_small_p_is() -> None:
    rng = np.random.default_rng(7)
    huge = dict.fromkeys(Signal, 1e9)
    comparison = compare(_reference(), traffic(300, rng, new=1.0), DriftSettings(floors=huge), rng)
    assert min(s.adjusted_p for s in comparison.signals) < 1e-6
    assert not comparison.drifted


def test_holm_never_lowers_a_p_value_and_keeps_their_order() -> None:
    rng = np.random.default_rng(8)
    for _ in range(50):
        raw = dict(zip(Signal, rng.random(len(Signal)) ** 3, strict=True))
        adjusted = holm(raw)
        ranked = sorted(raw, key=lambda signal: raw[signal])
        assert all(adjusted[s] >= raw[s] for s in raw)
        assert [adjusted[s] for s in ranked] == sorted(adjusted.values())
        assert adjusted[ranked[0]] == min(1.0, len(raw) * raw[ranked[0]])


@pytest.mark.parametrize("votes", list(Votes))
def test_alpha_keeps_its_promise_in_a_simulation_with_a_shared_reference(votes: Votes) -> None:
    from scipy.stats import norm

    requests, n_reference, n_current = 3_000, 600, 300
    alpha = alpha_for(requests, votes=votes, n_reference=n_reference, n_current=n_current)
    rng = np.random.default_rng(9)
    shared = n_current / (n_reference + n_current)
    windows, runs = requests // n_current, 4_000
    z = np.sqrt(shared) * rng.normal(size=(runs, 1)) + np.sqrt(1 - shared) * rng.normal(size=(runs, windows))
    hits = np.abs(z) > norm.isf(alpha / 2)
    alerts = 0
    for row in hits:
        recent: list[bool] = []
        for hit in row:
            recent = [*recent, bool(hit)][-votes.among :]
            if sum(recent) >= votes.needed:
                alerts, recent = alerts + 1, []
    assert alerts / runs <= 1.0


def test_alpha_falls_as_the_operator_asks_for_fewer_false_retrainings() -> None:
    levels = [
        alpha_for(n, votes=Votes.TWO_OF_THREE, n_reference=600, n_current=300) for n in (10_000, 100_000, 1_000_000)
    ]
    assert levels == sorted(levels, reverse=True)
    assert levels[0] <= 0.05


@pytest.mark.parametrize(
    "wrong", [{"min_rows": 3}, {"release": 0.5}, {"requests_per_false_retraining": 10}, {"floors": {}}]
)
def test_settings_refuse_values_out_of_range(wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigurationError):
        DriftSettings(**wrong)  # type: ignore[arg-type]


def test_reference_round_trips_through_its_folder(tmp_path: Path) -> None:
    reference = _reference(60)
    reference.save(tmp_path / "reference")
    again = ReferenceProfile.load(tmp_path / "reference")
    assert again.label_counts == reference.label_counts
    assert again.vocabulary == reference.vocabulary
    assert set(again.sample.texts.tolist()) == {""}
    assert again.sample.non_letters.tolist() == reference.sample.non_letters.tolist()
    held = b"".join(path.read_bytes() for path in (tmp_path / "reference").iterdir())
    assert not any(word.encode() in held for text in reference.sample.texts for word in text.split() if len(word) > 4)
    assert np.array_equal(again.sample.embeddings, reference.sample.embeddings)
    rng = np.random.default_rng(10)
    window = traffic(150, rng, new=0.2)
    first, second = (compare(r, window, DriftSettings(), np.random.default_rng(11)) for r in (reference, again))
    assert first == second


def test_reference_is_bounded_but_counts_every_row() -> None:
    rng = np.random.default_rng(12)
    reference = ReferenceProfile.build(traffic(400, rng), version=1, rng=rng, rows=100)
    assert (len(reference.sample), reference.seen_rows) == (100, 400)
    assert sum(reference.label_counts.values()) == 400


@pytest.mark.parametrize("damage", ["missing", "torn", "format"])
def test_a_damaged_reference_is_named(tmp_path: Path, damage: str) -> None:
    _reference(40).save(tmp_path)
    if damage == "missing":
        (tmp_path / "sample.npz").unlink()
    elif damage == "torn":
        (tmp_path / "sample.npz").write_bytes((tmp_path / "sample.npz").read_bytes()[:200])
    else:
        profile = tmp_path / "profile.json"
        profile.write_text(profile.read_text().replace('"format": 2', '"format": 99'))
    with pytest.raises(DataError, match=str(tmp_path)):
        ReferenceProfile.load(tmp_path)


def test_reference_refuses_few_rows_and_mixed_versions() -> None:
    rng = np.random.default_rng(13)
    with pytest.raises(DataError, match="at least 20"):
        ReferenceProfile.build(traffic(19, rng), version=1, rng=rng)
    with pytest.raises(DataError, match="versions"):
        ReferenceProfile.build(traffic(40, rng, version=4), version=1, rng=rng)


def test_window_reads_the_columns_of_an_arrow_table() -> None:
    n, d = 5, 4
    flat = pa.array(np.arange(n * d, dtype=np.float16))
    table = pa.table(
        {
            "text": ["grüße", "b", "c c", "d", ""],
            "prediction": ["x"] * n,
            "confidence": pa.array([0.5] * n, pa.float32()),
            "margin": pa.array([0.5] * n, pa.float32()),
            "entropy": pa.array([0.5] * n, pa.float32()),
            "version": [7] * n,
            "tokens": pa.array([1, 2, 3, 4, 5], pa.int32()),
            "at": pa.array(range(n), pa.timestamp("us", tz="UTC")),
            "embedding": pa.FixedSizeListArray.from_arrays(flat, d),
        }
    )
    window = Window.from_columns({name: table[name] for name in table.column_names})
    assert window.embeddings is not None
    assert window.embeddings.dtype == np.float16
    assert window.embeddings[1].tolist() == [4, 5, 6, 7]
    assert window.lengths.tolist() == [1, 2, 3, 4, 5]
    assert str(window.times[1]) == "1970-01-01T00:00:00.000001"  # type: ignore[index]


def test_window_with_a_missing_embedding_goes_without_them() -> None:
    columns = {"text": ["a", "b"], "prediction": ["x", "y"], "confidence": [1, 1], "margin": [1, 1], "entropy": [0, 0]}
    window = Window.from_columns({**columns, "version": [1, 2], "embedding": [[1.0], None]})
    assert window.embeddings is None
    assert window.texts.tolist() == ["a", "b"]


def test_window_names_what_is_missing_or_uneven() -> None:
    with pytest.raises(DataError, match="version"):
        Window.from_columns({"text": ["a"], "prediction": ["x"]})
    with pytest.raises(DataError, match="one length"):
        Window.from_columns(
            {"text": ["a"], "prediction": ["x", "y"], "confidence": [1], "margin": [1], "entropy": [0], "version": [1]}
        )


def test_window_save_keeps_any_text(tmp_path: Path) -> None:
    window = traffic(30, np.random.default_rng(14))
    window.texts[3], window.texts[4] = "naïve 🙂", ""
    window.save(tmp_path / "w.npz")
    again = Window.load(tmp_path / "w.npz")
    assert again.texts.tolist() == window.texts.tolist()
    assert again.ids is not None


def _of_an_earlier_release(reference: ReferenceProfile, window: Window, folder: Path) -> None:
    reference.save(folder)
    facts = json.loads((folder / "profile.json").read_text())
    facts |= {"format": 1, "vocabulary": sorted({word for text in window.texts for word in words_of(str(text))})}
    del facts["salt"]
    (folder / "profile.json").write_text(json.dumps(facts))
    reference.sample.save(folder / "sample.npz")


def test_a_reference_of_an_earlier_release_is_read_and_loses_its_texts(tmp_path: Path) -> None:
    reference = _reference(60)
    _of_an_earlier_release(reference, reference.sample, tmp_path / "old")
    read = ReferenceProfile.load(tmp_path / "old")
    assert read.sample.texts.tolist() == reference.sample.texts.tolist()
    assert read.unknown_shares_of(reference.sample).max() == 0.0
    assert forget_rows(tmp_path / "old", ())
    assert not forget_rows(tmp_path / "old", ())
    left = ReferenceProfile.load(tmp_path / "old")
    assert left.unknown_shares_of(reference.sample).max() == 0.0
    assert left.sample.non_letters.tolist() == reference.sample.non_letters.tolist()
    assert set(left.sample.texts.tolist()) == {""}


def test_erased_rows_leave_a_stored_reference_and_texts_come_back_by_id(tmp_path: Path) -> None:
    whole = _reference(60)
    names = [f"id-{number}" for number in range(len(whole.sample))]
    reference = replace(whole, sample=replace(whole.sample, ids=np.array(names)))
    reference.save(tmp_path / "r")
    assert forget_rows(tmp_path / "r", names[:3])
    left = ReferenceProfile.load(tmp_path / "r")
    assert left.sample.ids is not None
    assert left.sample.ids.tolist() == names[3:]
    shown = left.with_texts({names[4]: "hello there"})
    assert [text for text in shown.sample.texts if text] == ["hello there"]
    assert shown.sample.non_letters.tolist() == left.sample.non_letters.tolist()
    assert forget_rows(tmp_path / "r", names[:45])
    assert not (tmp_path / "r").exists(), "too few rows are no reference"
