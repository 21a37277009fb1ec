"""Every learner of sums keeps the promises of `Sums`: order, retries, removal, merging, emptiness and its file."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from perennial.continual.errors import DataError
from perennial.continual.learning.class_sums import ClassRows
from perennial.continual.learning.fourier import FourierFeatures
from perennial.continual.learning.kernel_lda import Discriminant, KernelLda
from perennial.continual.learning.lexical import LexicalFeatures
from perennial.continual.learning.normal_equations import Penalty
from perennial.continual.learning.ranking import Event, GramSettings, ItemGram
from perennial.continual.learning.ridge import Ridge
from perennial.continual.learning.sums import NamedSums, Sums, SumsFile, load_keys, triangle_rows, unpacked

ROWS = 60


@dataclass(frozen=True, kw_only=True)
class Learner:
    """How the suite makes, feeds, asks and reads one learner of sums.

    `rows` gives some of sixty keyed rows, `stray` rows that fit no sums of this kind, and `answers` what the solved
    sums answer to requests of the suite's own.
    """

    make: Callable[[], Sums[Any, Any, Any]]
    other: Callable[[], Sums[Any, Any, Any]]  # maps rows to other features
    load: Callable[[Path], Sums[Any, Any, Any]]
    rows: Callable[[Sequence[int]], Any]
    relabelled: Callable[[Sequence[int]], Any]  # the same rows with other labels
    stray: Callable[[], Any]
    answers: Callable[[Sums[Any, Any, Any]], np.ndarray]


def class_rows(rows: Sequence[int], *, turned: int = 0) -> ClassRows:
    """Rows of three classes around a direction each."""
    places = np.asarray(rows, dtype=np.intp)
    centres = np.random.default_rng(99).standard_normal((3, 6))
    X = centres[np.arange(ROWS) % 3] + 0.5 * np.random.default_rng(1).standard_normal((ROWS, 6))
    X /= np.linalg.norm(X, axis=1, keepdims=True)
    labels = [f"class {(place + turned) % 3}" for place in places]
    keys = [2**63 + int(place) for place in places]
    return ClassRows(X=X[places], labels=labels, keys=keys, texts=[f"row {place} 第{place}行" for place in places])


def kernel_lda(seed: int = 0) -> KernelLda:
    return KernelLda(FourierFeatures.make(dimension=6, features=40, gamma=0.5, seed=seed))


def histories(rows: Sequence[int], *, liked: float = 1.0) -> list[Event]:
    """Users who like the two items of their class, or change their minds a day later."""
    noon = datetime(2026, 1, 1 if liked == 1.0 else 2, 12, tzinfo=UTC)
    return [
        Event(user=f"u{row}", item=f"{kind}{row % 3}", at=noon + timedelta(minutes=minute), liked=liked)
        for row in rows
        for minute, kind in enumerate("ab")
    ]


def stray_event() -> list[Event]:
    return [Event(user="u0", item="", at=datetime(2026, 1, 1, tzinfo=UTC))]


def first_items(sums: Any) -> np.ndarray:
    solved = sums.solve(GramSettings(ridge=1.0))
    return solved.weights[:, [place for place, name in enumerate(solved.names) if name.startswith("a")]]  # type: ignore[no-any-return]


def ridge(size: int = 50, sketches: int = 1) -> Ridge:
    fourier = FourierFeatures.make(dimension=6, features=40, gamma=0.5, seed=0)
    return Ridge(fourier, LexicalFeatures.of_size(size, sketches))


def ridge_learner(sketches: int) -> "Learner":
    return Learner(
        make=lambda: ridge(sketches=sketches),
        other=lambda: ridge(size=51, sketches=sketches),
        load=Ridge.load,
        rows=class_rows,
        relabelled=lambda rows: class_rows(rows, turned=1),
        stray=lambda: ClassRows(X=np.zeros((1, 6)), labels=["class 0"]),
        answers=lambda sums: logits(sums, Penalty()),
    )


def logits(sums: Sums[Any, Any, Any], settings: Any) -> np.ndarray:
    queries = class_rows(range(ROWS))
    found: np.ndarray = sums.solve(settings).logits(queries.X, queries.texts)
    return found


LEARNERS = {
    "kernel_lda": Learner(
        make=kernel_lda,
        other=lambda: kernel_lda(seed=1),
        load=KernelLda.load,
        rows=class_rows,
        relabelled=lambda rows: class_rows(rows, turned=1),
        stray=lambda: ClassRows(X=np.full((1, 6), np.nan), labels=["class 0"]),
        answers=lambda sums: logits(sums, Discriminant(shrinkage=1e-3)),
    ),
    "ridge": ridge_learner(sketches=1),
    "sketched_ridge": ridge_learner(sketches=4),
    "item_gram": Learner(
        make=lambda: ItemGram(nearness=0.5),
        other=lambda: ItemGram(nearness=0.25),
        load=ItemGram.load,
        rows=histories,
        relabelled=lambda rows: histories(rows, liked=0.5),
        stray=stray_event,
        answers=first_items,
    ),
}


@pytest.fixture(params=LEARNERS.values(), ids=LEARNERS.keys())
def learner(request: pytest.FixtureRequest) -> Learner:
    found: Learner = request.param
    return found


def learnt(learner: Learner, *parts: Sequence[int]) -> Sums[Any, Any, Any]:
    sums = learner.make()
    for part in parts:
        sums.add(learner.rows(part))
    return sums


def assert_same(learner: Learner, one: Sums[Any, Any, Any], other: Sums[Any, Any, Any], exact: bool = False) -> None:
    """The same rows, sums and answers."""
    assert one.rows == other.rows
    assert one.known_keys == other.known_keys
    mine, theirs = one.named.sorted(), other.named.sorted()
    assert mine.keys() == theirs.keys()
    for name, array in mine.items():
        np.testing.assert_allclose(array, theirs[name], rtol=0, atol=0 if exact else 1e-9, err_msg=name)
    if one.rows:
        np.testing.assert_allclose(learner.answers(one), learner.answers(other), rtol=0, atol=1e-5)


def test_neither_order_nor_batches_of_rows_matter(learner: Learner) -> None:
    shuffled = np.random.default_rng(2).permutation(ROWS).tolist()
    batches = [shuffled[start : start + 7] for start in range(0, ROWS, 7)]
    assert_same(learner, learnt(learner, range(ROWS)), learnt(learner, *batches))


def test_the_order_of_classes_does_not_matter(learner: Learner) -> None:
    by_class = [list(range(place, ROWS, 3)) for place in (2, 0, 1)]
    assert_same(learner, learnt(learner, range(ROWS)), learnt(learner, *by_class))


def test_a_row_that_is_in_is_passed_over(learner: Learner) -> None:
    sums = learnt(learner, range(20))
    assert sums.add(learner.rows(range(10, 30))) == 10
    assert_same(learner, sums, learnt(learner, range(30)))


def test_a_row_that_is_given_twice_counts_once(learner: Learner) -> None:
    assert_same(learner, learnt(learner, [0, 1, 2, 0, 1]), learnt(learner, [2, 0, 1]))


def test_a_row_with_another_label_moves(learner: Learner) -> None:
    sums, expected = learnt(learner, range(20)), learnt(learner, range(5, 20))
    assert sums.add(learner.relabelled(range(5))) == 5
    expected.add(learner.relabelled(range(5)))
    assert_same(learner, sums, expected)
    assert sums.remove(learner.rows(range(5))) == 5, "a row leaves with the label that it had"
    assert_same(learner, sums, learnt(learner, range(5, 20)))


def test_removed_rows_leave_no_trace(learner: Learner) -> None:
    sums = learnt(learner, range(ROWS))
    assert sums.remove(learner.rows(range(25, ROWS))) == ROWS - 25
    assert_same(learner, sums, learnt(learner, range(25)))
    assert sums.remove(learner.rows(range(25, ROWS))) == 0, "a retry takes nothing"
    assert_same(learner, sums, learnt(learner, range(25)))


def test_rows_that_come_and_go_many_times_leave_no_trace(learner: Learner) -> None:
    sums = learnt(learner, range(30))
    for _ in range(50):
        sums.add(learner.rows(range(30, ROWS)))
        sums.remove(learner.rows(range(30, ROWS)))
    assert_same(learner, sums, learnt(learner, range(30)))


def test_a_whole_class_can_leave_and_come_back(learner: Learner) -> None:
    sums, mine = learnt(learner, range(ROWS)), list(range(1, ROWS, 3))
    sums.remove(learner.rows(mine))
    assert_same(learner, sums, learnt(learner, [row for row in range(ROWS) if row % 3 != 1]))
    sums.add(learner.rows(mine))
    assert_same(learner, sums, learnt(learner, range(ROWS)))


def test_merged_shards_are_learning_all_rows(learner: Learner) -> None:
    shards = [list(range(place, ROWS, 4)) for place in range(4)]
    merged = learnt(learner, shards[3])
    for shard in shards[:3]:
        merged.merge(learnt(learner, shard))
    assert_same(learner, merged, learnt(learner, range(ROWS)))


def test_shards_of_different_classes_merge(learner: Learner) -> None:
    merged = learnt(learner, range(2, ROWS, 3))
    merged.merge(learnt(learner, range(0, ROWS, 3)))
    assert_same(learner, merged, learnt(learner, range(0, ROWS, 3), range(2, ROWS, 3)))


def test_a_merge_with_nothing_changes_nothing(learner: Learner) -> None:
    sums, empty = learnt(learner, range(20)), learner.make()
    sums.merge(learner.make())
    assert_same(learner, sums, learnt(learner, range(20)), exact=True)
    empty.merge(sums)
    assert_same(learner, empty, sums)


def test_a_merge_that_would_count_rows_twice_changes_nothing(learner: Learner) -> None:
    sums = learnt(learner, range(20))
    with pytest.raises(DataError, match="share 5 rows"):
        sums.merge(learnt(learner, range(15, 30)))
    assert_same(learner, sums, learnt(learner, range(20)), exact=True)


def test_sums_over_other_features_do_not_merge(learner: Learner) -> None:
    sums, other = learnt(learner, range(20)), learner.other()
    other.add(learner.rows(range(20, 30)))
    with pytest.raises(DataError, match="different"):
        sums.merge(other)
    assert_same(learner, sums, learnt(learner, range(20)), exact=True)


def test_rows_that_do_not_fit_change_nothing(learner: Learner) -> None:
    sums = learnt(learner, range(20))
    for refuse in (sums.add, sums.remove):
        with pytest.raises(DataError):
            refuse(learner.stray())
    assert_same(learner, sums, learnt(learner, range(20)), exact=True)


def test_sums_without_rows_have_no_answer(learner: Learner) -> None:
    sums = learner.make()
    assert (sums.rows, list(sums.known_keys)) == (0, [])
    with pytest.raises(DataError, match="no rows"):
        learner.answers(sums)


def test_after_the_last_row_the_sums_are_exactly_zero(learner: Learner) -> None:
    sums = learnt(learner, range(30))
    sums.remove(learner.rows(range(30)))
    assert_same(learner, sums, learner.make(), exact=True)


def test_one_class_alone_is_answered(learner: Learner) -> None:
    sums = learnt(learner, range(0, 15, 3))
    answers = learner.answers(sums)
    assert np.isfinite(answers).all()
    assert answers.shape[1] == 1


def test_solving_leaves_the_sums_as_they_are(learner: Learner) -> None:
    sums = learnt(learner, range(30))
    before = sums.named.copy().sorted()
    learner.answers(sums)
    for name, array in sums.named.sorted().items():
        np.testing.assert_array_equal(array, before[name])


def test_a_file_gives_back_exactly_the_same_sums(learner: Learner, tmp_path: Path) -> None:
    sums, path = learnt(learner, range(40)), tmp_path / "sums.safetensors"
    sums.save(path)
    again = learner.load(path)
    assert_same(learner, again, sums, exact=True)
    assert load_keys(path) == sums.known_keys
    assert [found.name for found in tmp_path.iterdir()] == ["sums.safetensors"]
    again.add(learner.rows(range(40, ROWS)))
    again.remove(learner.rows(range(10)))
    assert_same(learner, again, learnt(learner, range(10, ROWS)))


def test_the_same_sums_are_the_same_file(learner: Learner, tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    learnt(learner, range(40)).save(one)
    learner.load(one).save(other)
    assert one.read_bytes() == other.read_bytes()


@pytest.mark.parametrize("content", [b"", b"not tensors", b"\x08\x00\x00\x00\x00\x00\x00\x00{}      "])
def test_a_file_of_another_kind_is_refused(learner: Learner, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "sums").write_bytes(content)
    with pytest.raises(DataError, match=r"cannot be read|have format"):
        learner.load(tmp_path / "sums")


def test_a_missing_file_is_refused(learner: Learner, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        learner.load(tmp_path / "nothing here")


def test_named_sums_merge_by_entry_on_several_axes() -> None:
    """As a matrix of items by items grows and merges: each entry finds its own row and column."""
    one, other = NamedSums({"pairs": ("item", "item")}), NamedSums({"pairs": ("item", "item")})
    one.places("item", ["a", "b"])
    one.arrays["pairs"][:] = [[1.0, 2.0], [2.0, 3.0]]
    other.places("item", ["c", "b"])
    other.arrays["pairs"][:] = [[10.0, 20.0], [20.0, 30.0]]
    one.merge(other)
    assert one.entries("item") == ("a", "b", "c")
    assert one.arrays["pairs"].tolist() == [[1.0, 2.0, 0.0], [2.0, 33.0, 20.0], [0.0, 20.0, 10.0]]
    one.keep("item", ["c", "b"])
    assert one.arrays["pairs"].tolist() == [[10.0, 20.0], [20.0, 33.0]]


@pytest.mark.parametrize("size", [0, 1, 2, 17])
def test_a_packed_triangle_unpacks_to_the_same_matrix(size: int) -> None:
    square = np.random.default_rng(0).standard_normal((size, size))
    symmetric = square + square.T
    packed = np.concatenate([np.zeros(0), *triangle_rows(symmetric)])
    np.testing.assert_array_equal(packed, symmetric[np.tril_indices(size)])
    np.testing.assert_array_equal(unpacked(packed, size), symmetric)


def test_a_file_of_sums_is_a_safetensors_file_with_triangles_for_squares(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    halves = rng.normal(size=(2, 5, 5))
    squares = halves + halves.transpose(0, 2, 1)
    tensors = {
        "z": rng.normal(size=3).astype(np.float32),
        "keys": np.arange(3, dtype=np.uint64),
        "none": np.zeros((0, 4)),
        "turned": rng.normal(size=(2, 3)).T,
        "yes": np.array([True, False]),
    }
    path = tmp_path / "sums.safetensors"
    SumsFile(format="example-1", tensors=tensors, about={"labels": ["ß"]}, squares={"outer_lower": squares}).write(path)
    expected = {**tensors, "outer_lower": np.stack([square[np.tril_indices(5)] for square in squares])}
    for seen in (load_file(path), SumsFile.read(path).tensors):
        assert seen.keys() == expected.keys()
        for name, value in expected.items():
            np.testing.assert_array_equal(seen[name], value)
            assert seen[name].dtype == value.dtype
    assert (SumsFile.read(path).format, SumsFile.read(path).about) == ("example-1", {"labels": ["ß"]})
    save_file({name: np.ascontiguousarray(value) for name, value in expected.items()}, path, {"about": "{}"})
    np.testing.assert_array_equal(SumsFile.read(path).tensors["outer_lower"], expected["outer_lower"])
