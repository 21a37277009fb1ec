"""Known answers: which rows are kept, and how far a loaded engine may be from them."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from perennial.continual.atomic_file import put_in_place
from perennial.continual.errors import BundleRejected
from perennial.exporters.bundle import verify_bundle, write_manifest
from perennial.exporters.engine import Inputs, Outputs
from perennial.exporters.golden import Golden, forget_texts
from perennial.exporters.text_classification.signature import TEXT_ENGINE
from perennial.exporters.text_classification.tokens import padded
from tests.unit.exporters.test_bundle import LABELS, make_manifest

ROWS = ((1, 2, 3), (4,), (5, 6))
ASKED = [padded([row]) for row in ROWS]


class Summing:
    """Logits from the token sum; in a batch, `apart` is added to the row that begins with that token."""

    def __init__(self, apart: dict[int, float] | None = None, shift: float = 0.0) -> None:
        self.apart, self.shift = apart or {}, shift

    def infer(self, inputs: Inputs) -> Outputs:
        input_ids = inputs["input_ids"]
        total = (input_ids * inputs["attention_mask"]).sum(axis=1).astype(np.float32)
        logits = np.stack([total, -total], axis=1) + np.float32(self.shift)
        if len(input_ids) > 1:
            logits[:, 0] += [self.apart.get(int(row[0]), 0.0) for row in input_ids]
        return {"logits": logits.astype(np.float32), "embedding": logits[:, :1]}


def golden_of(engine: Summing) -> Golden:
    return Golden.of(engine, TEXT_ENGINE, ASKED, tolerance=0.5)


def input_ids(golden: Golden) -> tuple[tuple[int, ...], ...]:
    return golden.inputs["input_ids"].rows


def known_logits(golden: Golden) -> tuple[tuple[float, ...], ...]:
    return golden.outputs["logits"].rows


def test_known_answers_are_those_of_each_row_alone() -> None:
    golden = golden_of(Summing())
    assert input_ids(golden) == ROWS
    assert known_logits(golden) == ((6.0, -6.0), (4.0, -4.0), (11.0, -11.0))
    assert golden.tolerance == 0.5


def test_rows_that_a_batch_answers_otherwise_are_left_out_from_half_the_tolerance_on() -> None:
    golden = golden_of(Summing({1: 0.25, 4: 0.2578125}))
    assert input_ids(golden) == (ROWS[0], ROWS[2])
    assert known_logits(golden) == ((6.0, -6.0), (11.0, -11.0))


def test_where_every_row_differs_in_a_batch_the_tolerance_gives_way_to_twice_the_largest() -> None:
    golden = golden_of(Summing({1: 0.5, 4: 1.0, 5: 2.0}))
    assert (input_ids(golden), golden.tolerance) == (ROWS, 4.0)


@pytest.mark.parametrize(("shift", "accepted"), [(0.0, True), (0.5, True), (0.5078125, False), (float("nan"), False)])
def test_a_loaded_engine_may_differ_by_the_tolerance_and_no_more(shift: float, accepted: bool) -> None:
    golden = golden_of(Summing())
    if accepted:
        assert golden.check(Summing(shift=shift)) == shift
        return
    with pytest.raises(BundleRejected, match=r"golden answers by .* \(limit 0.5\)"):
        golden.check(Summing(shift=shift))


def test_answers_of_another_shape_or_not_finite_differ_without_end() -> None:
    golden = golden_of(Summing())
    known = np.array(known_logits(golden), dtype=np.float32)

    def apart(logits: Any) -> float:
        return golden.difference({"logits": logits})

    assert apart(known) == 0.0
    assert apart(known + np.float32([[0, 0], [0.25, 0], [0, -1]])) == 1.0
    assert apart(known[:, :1]) == apart(known[:2]) == golden.difference({}) == float("inf")
    known[1, 1] = np.nan
    assert apart(known) == float("inf")


def test_known_answers_survive_their_file_and_ask_for_every_row_at_once(tmp_path: Path) -> None:
    golden = golden_of(Summing())
    golden.write(tmp_path)
    assert Golden.read(tmp_path) == golden
    ids, mask = golden.request().values()
    assert ids.tolist() == [[1, 2, 3], [4, 0, 0], [5, 6, 0]]
    assert mask.tolist() == [[1, 1, 1], [1, 0, 0], [1, 1, 0]]
    assert json.loads((tmp_path / "golden.json").read_text())["tolerance"] == 0.5


@pytest.fixture
def with_texts(tmp_path: Path) -> Path:
    """A bundle of an earlier release, which kept the texts of its known answers."""
    (tmp_path / "model.onnx").write_bytes(b"engine")
    (tmp_path / "labels.json").write_text(json.dumps(list(LABELS)), "utf-8")
    known = {
        "tolerance": 0.5,
        "texts": ["one", "two", "three"],
        "input_ids": [[1], [2], [3]],
        "logits": [[1], [2], [3]],
    }
    (tmp_path / "golden.json").write_text(json.dumps(known), "utf-8")
    write_manifest(tmp_path, make_manifest())
    return tmp_path


def test_texts_of_known_answers_are_forgotten_with_the_rows_of_the_erased(with_texts: Path) -> None:
    assert forget_texts(with_texts, {"two", "other"}) is True
    raw = json.loads((with_texts / "golden.json").read_text())
    assert raw == {"tolerance": 0.5, "input_ids": [[1], [3]], "logits": [[1], [3]]}
    assert verify_bundle(with_texts).version == 3
    assert sorted(path.name for path in with_texts.iterdir()) == [
        "golden.json", "labels.json", "manifest.json", "model.onnx",
    ]  # fmt: skip
    assert forget_texts(with_texts, {"one"}) is False  # nobody's text is left


def test_texts_go_although_none_of_them_was_erased(with_texts: Path) -> None:
    assert forget_texts(with_texts, set()) is True
    assert json.loads((with_texts / "golden.json").read_text())["input_ids"] == [[1], [2], [3]]


def test_known_answers_stay_where_every_one_is_of_an_erased_text(with_texts: Path) -> None:
    before = (with_texts / "golden.json").read_bytes()
    assert forget_texts(with_texts, {"one", "two", "three"}) is False
    assert (with_texts / "golden.json").read_bytes() == before


def test_a_damaged_bundle_is_not_made_whole_by_forgetting(with_texts: Path) -> None:
    (with_texts / "model.onnx").write_bytes(b"other!")
    before = (with_texts / "golden.json").read_bytes()
    with pytest.raises(BundleRejected, match="altered"):
        forget_texts(with_texts, {"two"})
    assert (with_texts / "golden.json").read_bytes() == before


def test_a_bundle_without_known_answers_has_nothing_to_forget(tmp_path: Path) -> None:
    assert forget_texts(tmp_path, {"one"}) is False


def test_known_answers_of_an_earlier_release_are_read_as_the_same(tmp_path: Path) -> None:
    golden = golden_of(Summing())
    before = {"tolerance": 0.5, "input_ids": input_ids(golden), "logits": known_logits(golden)}
    (tmp_path / "golden.json").write_text(json.dumps(before), "utf-8")
    assert Golden.read(tmp_path) == replace(golden, beside={})


def test_outputs_that_a_new_head_leaves_alone_are_known_too(tmp_path: Path) -> None:
    golden_of(Summing({1: 0.25})).write(tmp_path)
    golden = Golden.read(tmp_path)
    assert golden.moved(Summing({1: 0.25})) == 0.0
    assert golden.moved(Summing(shift=0.125)) == 0.125
    assert replace(golden, beside={}).moved(Summing()) is None


@pytest.mark.parametrize(("limit", "found", "batches"), [(0.5, 0.25, [3]), (0.1, 0.0, [3, 1, 1, 1])])
def test_rows_that_are_near_enough_in_a_batch_are_not_asked_alone(
    monkeypatch: pytest.MonkeyPatch, limit: float, found: float, batches: list[int]
) -> None:
    golden, engine, asked = golden_of(Summing()), Summing({1: 0.25}), list[int]()
    infer = engine.infer
    monkeypatch.setattr(engine, "infer", lambda inputs: asked.append(len(inputs["input_ids"])) or infer(inputs))
    assert golden.moved(engine, limit=limit) == found
    assert asked == batches


def known(tolerance: object = 0.1, **outputs: object) -> str:
    rows = {"input_ids": {"datatype": "INT64", "rows": [[1, 2], [3]]}}
    return json.dumps({"format": "perennial.golden/2", "tolerance": tolerance, "inputs": rows, "outputs": outputs})


@pytest.mark.parametrize(
    "content",
    [
        *("{}", "[]", "{", "[" * 100_000, '{"format": "perennial.golden/9"}', '{"tolerance": 1}'),
        known(),
        known(logits={"datatype": "FP32", "rows": []}),
        known(logits={"datatype": "FP32", "rows": [[1.0]]}),
        known(logits={"datatype": "INT64", "rows": [[10**30], [1]]}),
        known(float("nan"), logits={"datatype": "FP32", "rows": [[1.0], [2.0]]}),
        known(float("inf"), logits={"datatype": "FP32", "rows": [[1.0], [2.0]]}),
    ],
)
def test_a_file_that_holds_no_known_answers_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "golden.json").write_text(content, "utf-8")
    with pytest.raises(BundleRejected, match=r"golden\.json"):
        Golden.read(tmp_path)


class Killed(BaseException):
    """Whatever ends the process."""


@pytest.mark.parametrize("writes", range(5))
def test_a_kill_while_texts_are_forgotten_leaves_a_whole_bundle_and_the_next_try_ends_it(
    with_texts: Path, writes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = writes

    def kill(temporary: Path, path: Path, *, durable: bool = True) -> None:
        nonlocal left
        if left == 0:
            raise Killed
        left -= 1
        put_in_place(temporary, path, durable=durable)

    with monkeypatch.context() as patch:
        patch.setattr("perennial.continual.atomic_file.put_in_place", kill)
        if writes < 3:
            with pytest.raises(Killed):
                forget_texts(with_texts, {"two"})
        else:
            forget_texts(with_texts, {"two"})
    assert verify_bundle(with_texts).version == 3
    assert forget_texts(with_texts, {"two"}) is (writes < 3)
    assert verify_bundle(with_texts).replacements == {}
    assert input_ids(Golden.read(with_texts)) == ((1,), (3,))
    assert "texts" not in (with_texts / "golden.json").read_text()
