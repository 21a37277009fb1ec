"""Ridge regression from sums: the textbook's solution, and what words add to it."""

import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from perennial.continual.errors import ConfigurationError, DataError
from perennial.continual.learning import fast, normal_equations
from perennial.continual.learning.answering import answer
from perennial.continual.learning.calibration import places_of
from perennial.continual.learning.card import read_card
from perennial.continual.learning.class_sums import ClassRows
from perennial.continual.learning.context import Context
from perennial.continual.learning.fast import fit_fast, train_fast
from perennial.continual.learning.fourier import FourierFeatures
from perennial.continual.learning.head import Priors
from perennial.continual.learning.lexical import LexicalFeatures
from perennial.continual.learning.normal_equations import Penalty, together
from perennial.continual.learning.open_set import OpenSet
from perennial.continual.learning.ridge import Ridge
from perennial.continual.learning.selection import HeldOut, choose_penalty, default_penalty
from perennial.continual.learning.spec import JobSpec
from perennial.continual.learning.trained import read_head
from tests.unit.learning.conftest import make_rows

PARAMS = {"features": 120, "lexical": 200}


def rows(count: int, seed: int = 0, noise: float = 0.6) -> ClassRows:
    """Four classes that the embedding tells apart in two pairs, and a word within each pair."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).standard_normal((2, 6))
    truth = np.arange(count) % 4
    X = centres[truth // 2] + noise * rng.standard_normal((count, 6))
    words = np.array(["alpha", "omega"])[truth % 2]
    texts = [f"{word} {rng.integers(1000)}" for word in words]
    labels = [f"c{place}" for place in truth]
    return ClassRows(X=X / np.linalg.norm(X, axis=1, keepdims=True), labels=labels, texts=texts)


def learnt(given: ClassRows, sketches: int = 1) -> Ridge:
    fourier = FourierFeatures.make(dimension=6, features=100 * sketches, gamma=0.5, seed=0)
    head = Ridge(fourier, LexicalFeatures.of_size(128, sketches))
    head.add(given)
    return head


@pytest.mark.parametrize("sketches", [1, 3])
@pytest.mark.parametrize("precise", [True, False])
@pytest.mark.parametrize("words", [0.0, 0.3])
def test_the_solution_is_the_textbooks(words: float, precise: bool, sketches: int) -> None:
    """Of several sketches it is the mean of the textbook's solutions, each on features of its own."""
    given = rows(150)
    head, penalty = learnt(given, sketches), Penalty(shrinkage=0.2, words=words)
    Y = np.where(np.array(given.labels)[:, None] == np.array(head.labels)[None, :], 1.0, -1.0)
    expected = np.zeros_like(Y)
    for X in np.split(head.mapped(given), sketches, axis=1):
        assert np.linalg.norm(X[:, 100:], axis=1) == pytest.approx(1.0)
        assert np.linalg.norm(X[:, :100], axis=1) == pytest.approx(1.0, abs=0.3)
        X[:, 100:] *= np.sqrt(words)
        centred = X - X.mean(axis=0)
        weight = np.linalg.solve(centred.T @ centred + 0.2 * np.eye(X.shape[1]), centred.T @ (Y - Y.mean(axis=0)))
        expected += (centred @ weight + Y.mean(axis=0)) / sketches
    equations = head.equations()
    for _ in range(2):  # they can be solved again
        found = together([part.solved(penalty, precise=precise) for part in equations]).scores(head.mapped(given))
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-8 if precise else 1e-3)
    served = head.solve(penalty).logits(given.X, given.texts)
    np.testing.assert_allclose(served, expected - expected.mean(axis=1, keepdims=True), rtol=0, atol=1e-4)


@pytest.mark.parametrize("shrinkage", [1e-9, 1e-3, 0.3])
@pytest.mark.parametrize(("anchored", "sketches"), [(False, 1), (True, 1), (False, 3)])
@pytest.mark.parametrize("more", [1, 40, 200])  # more than half as many as there are features are learnt another way
def test_rows_beside_the_sums_are_learnt_as_if_they_were_in(
    more: int, anchored: bool, sketches: int, shrinkage: float
) -> None:
    """By the first head's factor, whatever the shrinkage is to float32; the sums stay without them."""
    given, beside, asked = rows(150), rows(more, seed=3), rows(50, seed=4)
    head, joint = learnt(given, sketches), learnt(given, sketches)
    if anchored:
        for each in (head, joint):
            each.anchor("c9", rows(4, seed=5))
    before, penalty = head.solve(Penalty(shrinkage=shrinkage)), Penalty(shrinkage=shrinkage)
    proved, whole = head.solve_with(beside, penalty)
    joint.add(beside)
    wanted = joint.solve(penalty)
    for found, expected in ((proved, before), (whole, wanted)):
        assert found.labels == expected.labels
        np.testing.assert_allclose(
            found.logits(asked.X, asked.texts), expected.logits(asked.X, asked.texts), rtol=0, atol=1e-4
        )
    assert head.rows == 150
    stranger = rows(1, seed=6)
    with pytest.raises(DataError, match="c7"):
        head.solve_with(ClassRows(X=stranger.X, labels=["c7"], texts=stranger.texts), penalty)


def test_both_heads_come_of_one_factor_a_sketch_and_rows_are_mapped_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside it there are factors of the size of the rows that are learnt after the proof."""
    given, beside = rows(150), rows(20, seed=3)
    head, sizes, mapped = learnt(given, sketches=3), list[int](), list[int]()
    factored, words = normal_equations.factored, LexicalFeatures.__call__

    def noted(matrix: NDArray[Any]) -> NDArray[Any]:
        sizes.append(len(matrix))
        return factored(matrix)

    def counted(self: LexicalFeatures, texts: Sequence[str]) -> NDArray[np.float64]:
        mapped.append(len(texts))
        return words(self, texts)

    monkeypatch.setattr(normal_equations, "factored", noted)
    monkeypatch.setattr(LexicalFeatures, "__call__", counted)
    seen = head.seen(beside)
    proved, _ = head.solve_with(replace(beside, features=seen), Penalty())
    assert sorted(sizes) == [21] * 3 + [228] * 3
    assert mapped == [20]
    np.testing.assert_array_equal(proved.scores(seen), proved.logits(beside.X, beside.texts))


def test_rows_that_were_mapped_without_their_words_are_refused() -> None:
    given = rows(8)
    head = learnt(given, sketches=3)
    halves = replace(given, features=replace(head.seen(given), of_words=None))
    with pytest.raises(DataError, match="without their words"):
        head.mapped(halves)
    with pytest.raises(DataError, match="without their words"):
        head.solve_with(halves)


def test_a_solution_is_the_same_to_the_last_bit_however_many_threads_there_are() -> None:
    given, beside = rows(150), rows(20, seed=3)
    found = []
    for threads in (1, 2):
        with threadpool_limits(limits=threads):
            found.append(learnt(given, sketches=3).solve_with(beside, Penalty()))
    for one, other in zip(*found, strict=True):
        assert one.weight.tobytes() == other.weight.tobytes()
        assert one.bias.tobytes() == other.bias.tobytes()


def test_words_tell_apart_what_embeddings_cannot() -> None:
    head, test_rows = learnt(rows(400)), rows(200, seed=1)
    right = []
    for words in (0.0, 0.3):
        weights = head.solve(Penalty(words=words))
        given = weights.logits(test_rows.X, test_rows.texts).argmax(axis=1)
        right.append(float((given == places_of(test_rows.labels, weights.labels)).mean()))
    assert right[0] < 0.6
    assert right[1] > 0.85


def test_held_out_rows_choose_to_read_words() -> None:
    head, held = learnt(rows(400)), rows(200, seed=1)
    on = HeldOut(X=held.X, labels=tuple(held.labels), texts=tuple(held.texts or ()))
    assert choose_penalty(head, on, Penalty(words=0.0), free=["words"]).words > 0
    assert choose_penalty(head, on, Penalty(words=0.0), free=[]) == Penalty(words=0.0)
    nobody = HeldOut(X=np.zeros((0, 6)), labels=(), texts=())
    assert choose_penalty(head, nobody, default_penalty(head), free=["words"]) == default_penalty(head)


def test_a_class_with_few_rows_is_not_hidden_behind_the_others() -> None:
    """By default; with priors as frequent as the rows, less of it is found, and less of all."""
    every = rows(900)
    given = every.at([row for row, label in enumerate(every.labels) if label != "c0" or row % 12 == 0])
    head, asked = learnt(given), rows(400, seed=1)
    truth, usual = np.array(asked.labels), default_penalty(head)

    def right(penalty: Penalty) -> NDArray[np.bool_]:
        solved = head.solve(penalty)
        found: NDArray[np.bool_] = np.array(solved.labels)[solved.logits(asked.X, asked.texts).argmax(axis=1)] == truth
        return found

    by_default, frequent = right(usual), right(replace(usual, priors=Priors.EMPIRICAL))
    assert by_default[truth == "c0"].mean() > frequent[truth == "c0"].mean() + 0.05
    assert by_default.mean() > frequent.mean()


def test_an_anchored_class_is_answered_before_its_first_row() -> None:
    given, test_rows = rows(200, noise=0.3), rows(100, seed=1, noise=0.3)
    old = given.at([row for row, label in enumerate(given.labels) if label in {"c0", "c1"}])
    new = given.at([row for row, label in enumerate(given.labels) if label == "c2"][:3])
    head = learnt(old)
    head.anchor("c2", new)
    mine, found = test_rows.at([row for row, label in enumerate(test_rows.labels) if label == "c2"]), {}
    for priors in Priors:
        weights = head.solve(Penalty(priors=priors))
        assert weights.labels == ("c0", "c1", "c2")
        answers = np.array(weights.labels)[weights.logits(mine.X, mine.texts).argmax(axis=1)]
        found[priors] = float((answers == "c2").mean())
    assert found[Priors.EMPIRICAL] > 0.5
    assert found[Priors.UNIFORM] >= found[Priors.EMPIRICAL]
    head.drop_anchors()
    assert head.labels == ("c0", "c1")


def test_texts_must_come_with_embeddings() -> None:
    head = learnt(rows(40))
    with pytest.raises(DataError, match="give the texts"):
        head.solve().logits(np.zeros((1, 6)))
    with pytest.raises(DataError, match="give the texts"):
        head.add(ClassRows(X=np.ones((1, 6)), labels=["c0"]))


@pytest.mark.parametrize("broken", [{"shrinkage": 0.0}, {"words": -1.0}])
def test_a_penalty_that_is_none_is_refused(broken: dict[str, float]) -> None:
    with pytest.raises(ConfigurationError, match="shrinkage"):
        Penalty(**broken)


@pytest.mark.slow
def test_a_job_learns_on_and_takes_rows_back(make_spec: Callable[..., Path], tmp_path: Path) -> None:
    """The same head whether rows were never there, or learnt and erased; the card says what was chosen."""
    first, second, held = make_rows("card loan", 30, 1), make_rows("trip", 30, 2), make_rows("card loan trip", 30, 9)
    params = PARAMS | {"shrinkage": 0.3, "words": 0.5, "priors": "empirical"}  # what is chosen depends on the way here
    steps = {
        "one": {"examples": first},
        "two": {"examples": second, "previous": "one"},
        "less": {"erase": first[:5], "previous": "two", "learner": "kernel_lda"},
        "never": {"examples": [*first[5:], *second]},
    }
    folders: dict[str, Path] = {}
    for name, fields in steps.items():
        previous = folders.get(str(fields.pop("previous", None)))
        own = {"learner": "ridge", "holdout": held, "params": params, "previous": previous, **fields}
        spec = JobSpec.read(make_spec(name, **own))
        card = train_fast(spec, Context())
        assert (card.head, card.learner) == ("ridge", "ridge")
        folders[name] = spec.out
    kept, never = (
        Ridge.load(folders["less"] / "statistics.safetensors"),
        Ridge.load(folders["never"] / "statistics.safetensors"),
    )
    np.testing.assert_allclose(kept.named.arrays["outer"], never.named.arrays["outer"], rtol=0, atol=1e-9)
    assert kept.known_keys == never.known_keys
    settings = read_card(folders["less"]).settings
    assert (settings["features"], settings["calibrated_on"]) == (240, 90)  # four sketches of half of the features each
    texts = [row.text for row in held]
    one, two = (answer(folders[name], texts, cache=tmp_path / "cache") for name in ("less", "never"))
    assert one[0] == two[0] == ("card", "loan", "trip")
    np.testing.assert_allclose(one[1], two[1], rtol=0, atol=1e-4)
    assert read_head(folders["less"]).lexical is not None
    less, fresh = OpenSet.read(folders["less"]), OpenSet.read(folders["never"])
    assert less is not None
    assert fresh is not None
    assert less.limit == pytest.approx(fresh.limit, abs=1e-3)
    X = np.eye(32, dtype=np.float32)
    np.testing.assert_allclose(less.near.distances(X), fresh.near.distances(X), rtol=1e-3)  # type: ignore[union-attr]


def at_random(texts: Sequence[str]) -> np.ndarray:
    """Embeddings that say little of a text, as an encoder gives of a language that it does not know."""
    X = np.stack([np.random.default_rng(zlib.crc32(text.encode())).standard_normal(32) for text in texts])
    return (X / np.linalg.norm(X, axis=1, keepdims=True)).astype(np.float32)


def test_the_better_closed_form_is_chosen_once(make_spec: Callable[..., Path]) -> None:
    """By held-out rows; its sums then go on, whichever it is. Without enough such rows the ridge is taken."""
    fields = {"examples": make_rows("card loan trip", 40, 1), "params": PARAMS | {"gamma": 0.5}}
    held = make_rows("card loan trip", 40, 9)
    cards = {}
    for learner in ("kernel_lda", "ridge", "auto"):
        spec = JobSpec.read(make_spec(learner, learner=learner, holdout=held, **fields))
        cards[learner] = train_fast(spec, Context(), at_random)
    assert cards["kernel_lda"].metrics["holdout_accuracy"] < cards["ridge"].metrics["holdout_accuracy"] - 0.1
    assert (cards["auto"].head, cards["auto"].learner) == ("ridge", "ridge")
    few = JobSpec.read(make_spec("few", learner="auto", holdout=held[:20], **fields))
    assert train_fast(few, Context(), at_random).head == "ridge"
    old = JobSpec.read(make_spec("old", learner="kernel_lda", holdout=held, **fields))
    train_fast(old, Context(), at_random)
    more = make_spec("more", learner="auto", holdout=held, previous=old.out, examples=make_rows("fees", 9, 1))
    card = train_fast(JobSpec.read(more), Context(), at_random)
    assert (card.head, card.data["rows"]) == ("kernel_lda", 129)
    fields["params"] = PARAMS | {"gamma": 0.5, "shrinkage": 1e-5}  # as a workspace told it while there was one form
    as_told = JobSpec.read(make_spec("told", learner="auto", holdout=held, **fields))
    assert train_fast(as_told, Context(), at_random).head == "kernel_lda"


@pytest.mark.parametrize(("behind", "fitted"), [(True, ["ridge"]), (False, ["ridge", "kernel_lda"])])
def test_a_kernel_lda_is_fitted_whole_only_where_it_is_ahead_with_few_features(
    make_spec: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, behind: bool, fitted: list[str]
) -> None:
    """Where it is fitted, it has the bandwidth that it would have chosen, and the choice is the same as ever."""
    fields = {"examples": make_rows("card loan trip", 40, 1), "holdout": make_rows("card loan trip", 40, 9)}
    heads: list[str] = []
    embedded = Counter[str]()

    def embed(texts: Sequence[str]) -> NDArray[np.float32]:
        embedded.update(texts)
        return at_random(texts)

    def fit(spec: JobSpec, *own: Any, head: str = "kernel_lda") -> fast.FastModel:
        heads.append(head)
        return fit_fast(spec, *own, head=head)

    monkeypatch.setattr(fast, "fit_fast", fit)
    if not behind:  # words are all that tells these rows apart, of which a kernel LDA reads none
        monkeypatch.setattr(fast.FirstLook, "scores", lambda _, known, order: np.full(len(known.labels), -1.0))
    made = JobSpec.read(make_spec("made", learner="auto", params=PARAMS, **fields))
    assert train_fast(made, Context(), embed).head == "ridge"
    assert heads == fitted
    assert set(embedded.values()) == {1}, "a text is embedded once"


@pytest.mark.parametrize("learner", ["kernel_lda", "ridge"])
def test_settings_are_chosen_anew_once_twice_the_rows_are_in(make_spec: Callable[..., Path], learner: str) -> None:
    """Choosing is most of what an update costs; between, the settings go on, and only the temperature is fitted."""
    held, chosen = make_rows("card loan trip fees", 30, 9), []
    previous = None
    for number, (words, count) in enumerate([("card loan", 30), ("trip", 30), ("fees", 30), ("fees", 30)]):
        params = {"features": 120} | ({"lexical": 200} if learner == "ridge" else {})
        fields = {"learner": learner, "holdout": held, "params": params, "previous": previous}
        if number == 1:  # what a person tells holds, and is no choice
            fields["params"] = params | {"shrinkage": 0.7}
        spec = JobSpec.read(make_spec(f"{learner}-{number}", examples=make_rows(words, count, number), **fields))
        chosen.append(train_fast(spec, Context()).settings)
        previous = spec.out
    assert [each["chosen_at"] for each in chosen] == [60, 0, 120, 120]
    assert chosen[1]["shrinkage"] == 0.7
    assert chosen[3]["shrinkage"] == chosen[2]["shrinkage"] != 0.7


def test_settings_of_another_closed_form_are_not_taken_over(make_spec: Callable[..., Path]) -> None:
    """A kernel LDA's shrinkage is a hundred thousandth of a ridge's."""
    rows = make_rows("card loan", 30, 1)
    first = JobSpec.read(make_spec("first", learner="kernel_lda", examples=rows, params={"features": 120}))
    train_fast(first, Context())
    later = make_spec("later", learner="ridge", examples=rows, previous=first.out, params=PARAMS)
    assert train_fast(JobSpec.read(later), Context()).settings["shrinkage"] == 0.5
