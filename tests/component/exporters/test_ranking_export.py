"""A ranking's engine that does not answer like the model is refused, and new likings go into the old graph."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from perennial.continual.errors import BundleRejected, ConfigurationError, DataError
from perennial.continual.learning.ranking import Event, Item
from perennial.exporters.bundle import Precision, read_manifest, verify_bundle, write_manifest
from perennial.exporters.golden import Golden
from perennial.exporters.parity import ParityVerdict, check_parity, default_limits
from perennial.exporters.port import exportable
from perennial.exporters.ranking.held_out import read_held_out
from perennial.exporters.runtime import load_engine
from perennial.exporters.spec import ExportPath
from perennial.exporters.torch_engine import TorchEngine
from tests.component.ranking_fixtures import ASKED_AT, ITEMS, asked_in_town, export_ranking, train_ranking

pytestmark = pytest.mark.component


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_ranking(tmp_path_factory.mktemp("town") / "trained")


def damaged(bundle: Path, name: str, change: float) -> None:
    """Change one of the graph's tables, and seal the bundle again as if nothing had happened."""
    path = bundle / "model.onnx"
    model = onnx.load(path)
    (item,) = (item for item in model.graph.initializer if item.name == name)
    array = numpy_helper.to_array(item).copy()
    array.reshape(-1)[::3] += np.asarray(change, dtype=array.dtype)
    item.CopyFrom(numpy_helper.from_array(array, name))
    onnx.save_model(model, path)
    write_manifest(bundle, read_manifest(bundle))


def judged(bundle: Path, trained: Path) -> ParityVerdict:
    model = exportable("ranking", trained)
    reference = model.answerer(TorchEngine(model.module(), model.signature), bundle)
    candidate = model.answerer(load_engine(bundle, threads=1), bundle)
    return check_parity(reference, candidate, asked_in_town(), None, default_limits(Precision.FP32))


@pytest.mark.parametrize(("table", "change"), [("tie_values", 0.05), ("tie_places", -1), ("popularity", 200.0)])
def test_a_damaged_graph_is_refused_by_parity_and_by_its_known_answers(
    trained: Path, tmp_path: Path, table: str, change: float
) -> None:
    made = export_ranking(tmp_path / "1", trained, 1)
    assert judged(made.bundle, trained).reasons == ()
    damaged(made.bundle, table, change)
    verify_bundle(made.bundle)
    assert not judged(made.bundle, trained).accepted
    with pytest.raises(BundleRejected, match="golden answers"):
        Golden.read(made.bundle).check(load_engine(made.bundle, threads=1))


def test_new_likings_are_a_weight_swap_and_a_new_item_is_a_full_export(trained: Path, tmp_path: Path) -> None:
    first = export_ranking(tmp_path / "1", trained, 1)
    more = [Event(user="late", item=item, at=ASKED_AT) for item in ("i02", "i39", "i38")]
    again = train_ranking(tmp_path / "again", more=more)
    swapped = export_ranking(tmp_path / "2", again, 2, previous=first.bundle)
    assert (swapped.path, swapped.fallback_reason) == (ExportPath.WEIGHT_SWAP, None)
    grown = train_ranking(tmp_path / "grown", items=(*ITEMS, Item(name="new", text="garden roses")))
    whole = export_ranking(tmp_path / "3", grown, 3, previous=swapped.bundle)
    assert whole.path is ExportPath.FULL
    assert whole.fallback_reason is not None
    assert "41 items does not fit" in whole.fallback_reason


def test_files_that_do_not_fit_the_manifest_are_refused(trained: Path, tmp_path: Path) -> None:
    made = export_ranking(tmp_path / "1", trained, 1)
    items = made.bundle / "items.jsonl"
    lines = items.read_text().splitlines(keepends=True)
    items.write_text("".join([lines[1], lines[0], *lines[2:]]))
    write_manifest(made.bundle, read_manifest(made.bundle))
    with pytest.raises(BundleRejected, match="not the 40 of the manifest"):
        verify_bundle(made.bundle)


@pytest.mark.parametrize(("engine", "precision"), [("openvino", "auto"), ("auto", "int8"), ("tensorrt", "fp16")])
def test_an_engine_that_breaks_ties_otherwise_is_refused_before_it_is_built(
    trained: Path, tmp_path: Path, engine: str, precision: str
) -> None:
    with pytest.raises(ConfigurationError, match="it comes as onnxruntime fp32"):
        export_ranking(tmp_path / "1", trained, 1, engine=engine, precision=precision)


def test_auto_is_the_one_engine_that_it_comes_as(trained: Path, tmp_path: Path) -> None:
    made = export_ranking(tmp_path / "1", trained, 1, engine="auto", precision="auto")
    assert (made.engine.value, made.precision.value) == ("onnxruntime", "fp32")


@pytest.mark.parametrize(
    ("content", "message"),
    [("[]", "no rows"), ("tea", "holds no lists"), ('{"user": "u"}', "asked_at"), ("[1]", "holds no lists")],
)
def test_held_out_lists_that_cannot_be_read_are_said(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "held.json"
    path.write_text(content)
    with pytest.raises(DataError, match=message):
        read_held_out(path, {})


def test_held_out_lists_know_what_their_user_did_before_and_nothing_later(tmp_path: Path) -> None:
    path = tmp_path / "held.json"
    path.write_text(f'{{"user": "u", "asked_at": "{ASKED_AT.isoformat()}"}}\n' * 2)
    history = tuple(Event(user="u", item=item, at=ASKED_AT.replace(hour=hour)) for hour, item in ((16, "a"), (17, "b")))
    held = read_held_out(path, {"u": history})
    assert [[event.item for event in asked.profile.events] for asked in held.inputs] == [["a"], ["a"]]
    assert held.targets is None
