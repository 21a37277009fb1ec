"""Noise that hides a row: as much as published accountants say, on every part of the sums, and never twice for free."""

import math
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest

from perennial.continual.errors import ConfigurationError, DataError
from perennial.continual.federation.announcement import announcement_of
from perennial.continual.federation.masking import Keys
from perennial.continual.federation.others import features_of
from perennial.continual.federation.round import Round
from perennial.continual.learning.anchored_sums import AnchoredSums
from perennial.continual.learning.class_sums import ClassRows
from perennial.continual.learning.fourier import FourierFeatures
from perennial.continual.learning.kernel_lda import Discriminant, KernelLda
from perennial.continual.learning.lexical import LexicalFeatures
from perennial.continual.learning.ridge import Ridge
from perennial.continual.learning.sums import NamedSums, SumsFile
from perennial.continual.learning.told_sums import beyond
from perennial.continual.privacy.noise import (
    Privacy,
    delta_of,
    epsilon_of,
    longest_row,
    noised,
    outer_noise,
    sound,
)

SITES = ("east", "north", "west")
_MULTIPLIER = 3.0


@pytest.mark.parametrize(
    ("epsilon", "multiplier"),
    [(8.0, 0.6002290721989517), (2.0, 1.993812445643535), (1.0, 3.7306316348159387), (0.5, 7.0318266755824945)],
)
def test_the_noise_is_what_a_published_accountant_says(epsilon: float, multiplier: float) -> None:
    """`get_smallest_gaussian_noise` of Google's dp-accounting 0.6.0, at delta 1e-5."""
    assert Privacy(epsilon=epsilon, delta=1e-5).multiplier == pytest.approx(multiplier, rel=1e-6)


@pytest.mark.parametrize(
    ("multiplier", "epsilon", "delta"),
    [
        (0.6, 8.0, 1.0096799190846777e-05),
        (0.6, 1.0, 0.38598195232500937),
        (1.0, 1.0, 0.12693673750664392),
        (1.994, 2.0, 9.982539714084907e-06),
        (5.0, 1.0, 1.7546333318961037e-08),
    ],
)
def test_the_delta_is_what_a_published_accountant_says(multiplier: float, epsilon: float, delta: float) -> None:
    """`GaussianPrivacyLoss(multiplier).get_delta_for_epsilon(epsilon)` of dp-accounting 0.6.0."""
    assert delta_of(epsilon, 1 / multiplier) == pytest.approx(delta, rel=1e-9)


def test_exchanges_add_up_as_one_with_less_noise() -> None:
    once = Privacy(epsilon=2.0, delta=1e-5)
    four = epsilon_of(math.sqrt(4) / once.multiplier, 1e-5)
    assert epsilon_of(1 / once.multiplier, 1e-5) == pytest.approx(2.0, rel=1e-6)
    assert 2.0 < four < 8.0, "dearer than one, and cheaper than the sum of four"
    assert Privacy(epsilon=four, delta=1e-5).multiplier == pytest.approx(once.multiplier / 2, rel=1e-6)
    assert epsilon_of(0.0, 1e-5) == 0.0


@pytest.mark.parametrize("wrong", [{"epsilon": 0.0}, {"epsilon": math.inf}, {"delta": 0.0}, {"delta": 1.0}])
def test_a_promise_that_is_none_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigurationError, match="must be positive"):
        Privacy(**{"epsilon": 1.0, "delta": 1e-5, **wrong})


def test_a_promise_that_no_noise_keeps_is_refused() -> None:
    assert delta_of(1e-3, 1.0 / Privacy(epsilon=1e-3, delta=1e-5).multiplier) <= 1e-5
    with pytest.raises(ConfigurationError, match="epsilon 1e-06 at delta 1e-12 needs noise of more than 10000 times"):
        _ = Privacy(epsilon=1e-6, delta=1e-12).multiplier


def bounded(dimension: int = 12) -> KernelLda:
    return KernelLda(FourierFeatures.bounded(dimension=dimension, seed=0))


FORMS = {
    "bounded": bounded,
    "drawn": lambda: KernelLda(FourierFeatures.make(dimension=12, features=30, gamma=0.5, seed=0)),
    "ridge": lambda: Ridge(FourierFeatures.bounded(dimension=12, seed=0), LexicalFeatures.of_size(20)),
    "sketches": lambda: Ridge(
        FourierFeatures.make(dimension=12, features=30, gamma=0.5, seed=0), LexicalFeatures.of_size(20, 2)
    ),
}


def some_rows(count: int, seed: int = 0, dimension: int = 12) -> ClassRows:
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((count, dimension))
    X[: count // 2] += 2.0 * np.eye(dimension)[0]
    X /= np.linalg.norm(X, axis=1, keepdims=True)
    labels = ["yes" if row < count // 2 else "no" for row in range(count)]
    return ClassRows(
        X=X, labels=labels, keys=list(range(count)), texts=[f"a row {row} of words" for row in range(count)]
    )


@pytest.mark.parametrize("form", FORMS)
def test_no_row_is_longer_than_is_told(form: str) -> None:
    """Rows at random, on the axes, and along every direction of the map."""
    sums: AnchoredSums = FORMS[form]()
    directions = np.concatenate([np.eye(12), sums.features.omega.T.astype(np.float64)])
    X = np.concatenate([some_rows(500).X, directions / np.linalg.norm(directions, axis=1, keepdims=True)])
    texts = [f"{row} word" for row in range(len(X))]
    mapped = sums.mapped(ClassRows(X=X, labels=["a"] * len(X), texts=texts))  # type: ignore[attr-defined]
    lengths = np.linalg.norm(mapped, axis=1)
    assert lengths.max() <= longest_row(sums)
    assert form != "bounded" or lengths.min() > 0.9 * longest_row(sums), "noise for longer rows would be wasted"


@pytest.mark.parametrize("form", FORMS)
def test_a_row_changes_the_sums_by_less_than_the_noise_hides(form: str) -> None:
    """The change over the noise's deviation, entry by entry, is 1 / multiplier at most: for any row, also an axis."""
    spreads = _spreads(FORMS[form](), _MULTIPLIER)
    for X in [*some_rows(10).X, *np.eye(12)]:
        sums: AnchoredSums = FORMS[form]()
        sums.add(ClassRows(X=X[None], labels=["yes"], texts=["every word"]))
        # the deviations of counts are estimated to a hundredth
        assert _change(_without_plain(sums), sums, spreads) <= 1.03 / _MULTIPLIER


@pytest.mark.parametrize("form", FORMS)
def test_a_row_of_another_class_is_hidden_as_well(form: str) -> None:
    """It changes two counts and two sums, and no outer product: whoever corrects a label is told of no more."""
    spreads = _spreads(FORMS[form](), _MULTIPLIER)
    for X in [*some_rows(10).X, *np.eye(12)]:
        before, after = FORMS[form](), FORMS[form]()
        for sums, label in ((before, "no"), (after, "yes")):
            sums.add(ClassRows(X=X[None], labels=[label], texts=["every word"]))
        assert _change(beyond(_without_plain(after), _without_plain(before)), after, spreads) <= 1.03 / _MULTIPLIER


def _change(named: NamedSums, sums: AnchoredSums, spreads: dict[str, float]) -> float:
    """A difference of sums over the noise on each entry that is told: the root of the squares."""
    outer = np.concatenate([square[np.tril_indices(len(square))] for square in _squares(named)])
    change = sum(float(((named.arrays[name] / spreads[name]) ** 2).sum()) for name in ("counts", "sums"))
    rows, columns = np.tril_indices(_squares(named).shape[-1])
    diagonal = np.tile(np.where(rows == columns, math.sqrt(2.0), 1.0), len(_squares(named)))
    change += float(((outer / (outer_noise(longest_row(sums), _MULTIPLIER) * diagonal)) ** 2).sum())
    return math.sqrt(change)


def _squares(named: NamedSums) -> np.ndarray:
    size = named.arrays["outer"].shape[-1]
    return named.arrays["outer"].reshape(-1, size, size)


def _spreads(sums: AnchoredSums, multiplier: float) -> dict[str, float]:
    """As they are drawn: the deviation of what is added to sums of nothing, of a great many entries."""
    named = _without_plain(sums, classes=4000)
    found = noised(named, longest_row(sums), multiplier, np.random.default_rng(0))
    return {name: float(array.std()) for name, array in found.arrays.items()}


def _without_plain(sums: AnchoredSums, classes: int = 0) -> NamedSums:
    layout = {name: axes for name, axes in sums.named.layout.items() if not name.startswith("plain")}
    named = NamedSums(layout)
    if classes:
        named.places("class", [f"{number}" for number in range(classes)])
    else:
        named.restore({"class": sums.named.entries("class")}, {name: sums.named.arrays[name].copy() for name in layout})
    return named


def test_outer_products_stay_symmetric_and_have_the_noise_that_is_told() -> None:
    named = _without_plain(bounded(200), classes=1)
    outer = noised(named, 1.0, 2.0, np.random.default_rng(1)).arrays["outer"]
    np.testing.assert_array_equal(outer, outer.T)
    assert outer[np.tril_indices(200, -1)].std() == pytest.approx(outer_noise(1.0, 2.0), rel=0.02)
    assert outer.diagonal().std() == pytest.approx(math.sqrt(2) * outer_noise(1.0, 2.0), rel=0.15)
    assert not named.arrays["outer"].any(), "the sums themselves stay"


def test_noised_sums_are_made_into_sums_that_rows_could_have() -> None:
    sums = bounded()
    sums.add(some_rows(60))
    spread = outer_noise(longest_row(sums), 5.0)
    named = sound(noised(_without_plain(sums), longest_row(sums), 5.0, np.random.default_rng(3)), spread)
    counts, within = named.arrays["counts"], named.arrays["outer"]
    assert (counts >= 1).all()
    assert (counts == np.rint(counts)).all()
    within = within - (named.arrays["sums"] / counts[:, None]).T @ named.arrays["sums"]
    assert np.linalg.eigvalsh(within).min() > 0
    head = sums.of_named(named).solve(Discriminant(shrinkage=1e-6))
    assert np.isfinite(head.weight).all()


def test_little_noise_leaves_the_answers_as_they_were() -> None:
    sums, rows = bounded(), some_rows(2000)
    sums.add(rows)
    longest, multiplier = longest_row(sums), Privacy(epsilon=8.0, delta=1e-5).multiplier
    named = noised(_without_plain(sums), longest, multiplier, np.random.default_rng(0))
    told = sums.of_named(sound(named, outer_noise(longest, multiplier)))
    heads = [one.solve(Discriminant(shrinkage=1e-4)) for one in (sums, told)]
    assert heads[0].labels == heads[1].labels
    first, second = (head.logits(rows.X).argmax(axis=1) for head in heads)
    assert (first == second).mean() > 0.95


def _round(folder: Path, *private: str) -> dict[str, tuple[KernelLda, Keys]]:
    folder.mkdir()
    sites = {}
    promise = Privacy(epsilon=8.0, delta=1e-5)
    for number, name in enumerate(SITES):
        sums, keys = bounded(), Keys.made()
        sums.add(some_rows(300, seed=number))
        features = features_of(sums, encoder="e", max_length=9)
        Round(folder).announce(announcement_of(sums, name, keys, features, promise if name in private else None))
        sites[name] = (sums, keys)
    for name, (sums, keys) in sites.items():
        Round(folder).send(sums, keys, privacy=promise if name in private else None)
    return sites


def test_a_round_with_noise_tells_neither_rows_nor_sums_and_still_helps(tmp_path: Path) -> None:
    sites = _round(tmp_path / "round", "north", "west")
    said = Round(tmp_path / "round").announced["north"]
    assert (said.rows, said.plain, said.spread > 0) == (0, False, True)
    others = Round(tmp_path / "round").take(*sites["east"])
    assert 550 < others.shared.rows < 650
    whole, exact = others.joined(sites["east"][0]), bounded()
    for seed in range(3):
        exact.add(replace(some_rows(300, seed=seed), keys=None))
    rows = some_rows(1000, seed=9)
    right = []
    for sums in (whole, exact):
        scores = sums.solve(Discriminant(shrinkage=1e-4)).logits(rows.X)
        right.append(float((np.array(sums.labels)[scores.argmax(axis=1)] == np.array(rows.labels)).mean()))
    assert right[0] > right[1] - 0.05 > 0.7


def test_noise_that_is_sent_again_is_the_same(tmp_path: Path) -> None:
    """Two draws for one promise could be averaged."""
    sites = _round(tmp_path / "round", *SITES)
    path = tmp_path / "round" / "north.sums.safetensors"
    before = path.read_bytes()
    path.unlink()
    Round(tmp_path / "round").send(*sites["north"], privacy=Privacy(epsilon=8.0, delta=1e-5))
    assert path.read_bytes() == before


def test_secret_noise_is_normal_and_alike_for_a_key_alone() -> None:
    keys = Keys.made()
    first, second = (keys.noise().standard_normal((300, 300)) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert abs(first.mean()) < 5 / 300
    assert first.std() == pytest.approx(1.0, abs=0.02)
    assert [float((np.abs(first) < bound).mean()) for bound in (1, 2, 3)] == pytest.approx(
        [0.683, 0.954, 0.997], abs=0.01
    )
    for other in (Keys.made().noise(), Keys.made().noise()):
        assert np.corrcoef(first.ravel(), other.standard_normal((300, 300)).ravel())[0, 1] == pytest.approx(0, abs=0.02)


def test_masks_that_are_left_are_noticed_beside_noise_too(tmp_path: Path) -> None:
    sites = _round(tmp_path / "round", *SITES)
    file = SumsFile.read(path := tmp_path / "round" / "north.sums.safetensors")
    words = np.random.default_rng(0).integers(0, 2**64, len(file.tensors["words"]), np.uint64)
    about = {**file.about, "sha256": sha256(words.tobytes()).hexdigest()}
    SumsFile(format=file.format, tensors={"words": words}, about=about).write(path)
    with pytest.raises(DataError, match="are no sums of rows"):
        Round(tmp_path / "round").take(*sites["east"])


def test_an_embedding_that_was_kept_in_few_bits_is_hidden_as_well() -> None:
    """Rounded to bfloat16's eight bits, a vector of length 1 is longer by 1/256 at most."""
    X = np.linalg.svd(bounded().features.omega.astype(np.float64))[0].T * (1.0 + 2.0**-8)
    assert np.linalg.norm(X @ bounded().features.omega, axis=1).max() * math.sqrt(2 / 12) <= longest_row(bounded())


def test_sums_are_not_sent_with_less_noise_than_was_announced(tmp_path: Path) -> None:
    sites = _round(tmp_path / "round", "north")
    (tmp_path / "round" / "north.sums.safetensors").unlink()
    for other in (None, Privacy(epsilon=9.0, delta=1e-5)):
        with pytest.raises(DataError, match="noise was announced that is not what is to be sent"):
            Round(tmp_path / "round").send(*sites["north"], privacy=other)
