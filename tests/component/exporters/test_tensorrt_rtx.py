"""The real TensorRT for RTX, which builds without a GPU: our graphs parse and build, broken ones are refused."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper

from perennial.continual.errors import BundleRejected, ExportFailed
from perennial.exporters.bundle import Precision
from perennial.exporters.onnx import OnnxGraph
from perennial.exporters.tensorrt import (
    BuildOptions,
    Flavour,
    Machine,
    Profile,
    Refit,
    build_plan,
    load_plan,
    machine_without_gpu,
    write_typed,
)
from perennial.exporters.tensorrt.builder import parse_network
from tests.component.real_rtx import spoken_rtx
from tests.doubles.tensorrt_listing import RTX, listing
from tests.doubles.tensorrt_reading import read_module

pytestmark = pytest.mark.component
FLOATS = {TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16}
PROFILES = (Profile(best_batch=4, best_sequence=8, max_batch=8, max_sequence=16),)


@pytest.fixture
def rtx() -> Iterator[Any]:
    """The real library."""
    with spoken_rtx() as library:
        yield library


@pytest.fixture
def parse(rtx: Any) -> Callable[[Path], Any]:
    """The network that the real parser reads out of a file; the builder lives as long as the test."""
    builder = rtx.Builder(rtx.Logger(rtx.Logger.ERROR))
    return lambda path: parse_network(builder, path, machine_without_gpu())


def test_double_lists_what_the_real_library_has(rtx: Any) -> None:
    assert read_module(rtx) == listing(RTX)


@pytest.mark.parametrize("precision", [Precision.FP16, Precision.BF16])
def test_exported_graph_builds_and_waits_for_a_gpu(portable: OnnxGraph, tmp_path: Path, precision: Precision) -> None:
    plan = tmp_path / "model.plan"
    options = BuildOptions(precision=precision, profiles=PROFILES, refit=Refit.NONE, targets=("8.9",))
    record = build_plan(portable.path, plan, options, machine=machine_without_gpu())
    assert not record.probed
    assert record.machine.tensorrt == RTX
    # the inspector needs a driver, but the plan holds the kernels' text: one fused attention a layer of the encoder
    assert plan.read_bytes().count(b"__global__ void _gemm_mha_v2_") == 2
    with pytest.raises(BundleRejected, match="never answered"):
        load_plan(plan, machine=Machine(gpu="", capability="8.9", cuda="", tensorrt=RTX, flavour=Flavour.RTX))


@pytest.mark.parametrize("precision", [Precision.FP32, Precision.FP16, Precision.BF16])
def test_every_weight_of_an_exported_graph_can_be_marked_refittable(
    portable: OnnxGraph, parse: Callable[[Path], Any], tmp_path: Path, precision: Precision
) -> None:
    write_typed(portable.path, tmp_path / "typed.onnx", precision)
    network = parse(tmp_path / "typed.onnx")
    tensors = onnx.load(str(tmp_path / "typed.onnx")).graph.initializer
    # the others are shapes, and the small numbers that keep a division finite
    names = [tensor.name for tensor in tensors if tensor.data_type in FLOATS and tensor.dims]
    assert len(names) > 30
    assert [name for name in names if not network.mark_weights_refittable(name)] == []
    assert not network.mark_weights_refittable("no such weight")


@pytest.mark.parametrize(
    ("operator", "shape", "kind"),
    [
        ("Attentive", [3, 4], TensorProto.FLOAT),  # no such operator
        ("MatMul", [5, 4], TensorProto.FLOAT),  # inner sizes differ
        ("MatMul", [3, 4], TensorProto.FLOAT16),  # types differ
    ],
)
def test_broken_graph_is_refused_with_the_parsers_own_words(
    parse: Callable[[Path], Any], tmp_path: Path, operator: str, shape: list[int], kind: int
) -> None:
    weight = helper.make_tensor("weight", kind, shape, bytes(shape[0] * shape[1] * (2 if kind == 10 else 4)), raw=True)
    graph = helper.make_graph(
        [helper.make_node(operator, ["x", "weight"], ["y"], name="broken")],
        "broken",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, 4])],
        [weight],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9), str(tmp_path / "b"))
    with pytest.raises(ExportFailed, match=r"TensorRT for RTX 1\.7\.1\.116 cannot parse b: .*broken"):
        parse(tmp_path / "b")


def test_file_that_is_no_graph_is_refused(parse: Callable[[Path], Any], tmp_path: Path) -> None:
    (tmp_path / "b").write_bytes(b"no graph")
    with pytest.raises(ExportFailed, match="cannot parse b"):
        parse(tmp_path / "b")
