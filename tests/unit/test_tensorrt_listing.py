"""The double made from the published listings refuses what the real builder of that version refuses."""

from types import ModuleType
from typing import Any

import pytest

from tests.doubles.tensorrt_double import Misuse, make_module
from tests.doubles.tensorrt_graph import write_graph
from tests.doubles.tensorrt_listing import EVERY, RTX, listing, parse

pytestmark = pytest.mark.slow


@pytest.fixture(params=EVERY)
def trt(request: pytest.FixtureRequest) -> ModuleType:
    return make_module(request.param)


@pytest.fixture
def started(trt: ModuleType) -> tuple[Any, Any, Any, Any]:
    logger = trt.Logger()
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    return logger, builder, network, builder.create_builder_config()


def _profile(trt: ModuleType, builder: Any, names: tuple[str, ...] = ("input_ids", "attention_mask")) -> Any:
    profile = builder.create_optimization_profile()
    for name in names:
        profile.set_shape(name, trt.Dims((1, 1)), trt.Dims((2, 4)), trt.Dims((4, 8)))
    return profile


@pytest.mark.parametrize("version", EVERY)
def test_listing_every_signature_parses(version: str) -> None:
    classes = listing(version)["classes"].values()
    texts = [text for described in classes for lines in described["methods"].values() for text in lines]
    assert len(texts) > 400
    assert all(parse(text).returns for text in texts)


def test_precision_flag_is_unknown_in_11() -> None:
    with pytest.raises(Misuse, match="FP16"):
        _ = make_module("11.4.0.106").BuilderFlag.FP16


def test_precision_flag_on_a_strongly_typed_network_is_refused_in_10() -> None:
    trt = make_module("10.16.1.11")
    config = trt.Builder(trt.Logger()).create_builder_config()
    with pytest.raises(Misuse, match="strongly typed"):
        config.set_flag(trt.BuilderFlag.FP16)


@pytest.mark.parametrize(
    "misuse",
    [
        lambda trt: trt.Bilder,
        lambda trt: trt.BuilderFlag.REFITTED,
        lambda trt: trt.Builder(),
        lambda trt: trt.Builder("logger"),
        lambda trt: trt.Builder(logger=trt.Logger(), level=1),
        lambda trt: trt.Builder(trt.Logger()).create_network("1"),
        lambda trt: trt.Builder(trt.Logger()).create_network(2.0),
        lambda trt: trt.Builder(trt.Logger()).max_workspace_size,
        lambda trt: setattr(trt.Builder(trt.Logger()), "logger", trt.Logger()),
        lambda trt: setattr(trt.Builder(trt.Logger()).create_builder_config(), "max_workspace_size", 1),
        lambda trt: setattr(trt.Builder(trt.Logger()).create_builder_config(), "builder_optimization_level", "3"),
        lambda trt: trt.Builder(trt.Logger()).create_builder_config().set_flag(trt.MemoryPoolType.WORKSPACE),
        lambda trt: trt.IBuilderConfig(),
        lambda trt: setattr(trt.BuilderFlag, "REFIT", 3),
        lambda trt: trt.Runtime(trt.Logger()).deserialize_cuda_engine("plan.bin"),
        lambda trt: trt.Builder(trt.Logger()).reset(),
    ],
)
def test_double_refuses_unknown_names_arguments_and_types(trt: ModuleType, misuse: Any) -> None:
    with pytest.raises(Misuse):
        misuse(trt)


def test_double_refuses_weak_typing_and_unshifted_flags(trt: ModuleType) -> None:
    builder = trt.Builder(trt.Logger())
    with pytest.raises(Misuse, match="strongly typed"):
        builder.create_network()
    with pytest.raises(Misuse, match=r"strongly typed|no flag"):
        builder.create_network(int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))


def test_explicit_batch_is_unknown_in_11() -> None:
    assert int(make_module("10.16.1.11").NetworkDefinitionCreationFlag.EXPLICIT_BATCH) == 0
    with pytest.raises(Misuse, match="EXPLICIT_BATCH"):
        _ = make_module("11.4.0.106").NetworkDefinitionCreationFlag.EXPLICIT_BATCH


def test_double_of_rtx_refuses_more_targets_than_were_announced() -> None:
    trt = make_module(RTX)
    config = trt.Builder(trt.Logger()).create_builder_config()
    with pytest.raises(Misuse, match="announced"):
        config.set_compute_capability(trt.ComputeCapability.SM89, 0)
    config.num_compute_capabilities = 1
    assert config.set_compute_capability(trt.ComputeCapability.SM89, 0)


def test_double_refuses_building_before_parsing(trt: ModuleType, started: Any) -> None:
    _, builder, network, config = started
    config.add_optimization_profile(_profile(trt, builder))
    with pytest.raises(Misuse, match="parse before"):
        builder.build_serialized_network(network, config)


@pytest.mark.parametrize("names", [(), ("input_ids",), ("input_ids", "attention_mask", "token_type_ids")])
def test_double_refuses_profiles_that_miss_the_inputs(
    trt: ModuleType, started: Any, tmp_path: Any, names: tuple[str, ...]
) -> None:
    logger, builder, network, config = started
    assert trt.OnnxParser(network, logger).parse_from_file(str(write_graph(tmp_path / "a.onnx")))
    if names:
        config.add_optimization_profile(_profile(trt, builder, names))
    with pytest.raises(Misuse, match="profile"):
        builder.build_serialized_network(network, config)


def test_double_refuses_settings_after_the_build(trt: ModuleType, started: Any, tmp_path: Any) -> None:
    logger, builder, network, config = started
    assert trt.OnnxParser(network, logger).parse_from_file(str(write_graph(tmp_path / "a.onnx")))
    config.add_optimization_profile(_profile(trt, builder))
    cache = config.create_timing_cache(b"")
    with pytest.raises(Misuse, match="before the build"):
        config.get_timing_cache()
    assert builder.build_serialized_network(network, config) is not None
    for late in (
        lambda: config.set_timing_cache(cache, ignore_mismatch=False),
        lambda: config.set_flag(trt.BuilderFlag.REFIT),
        lambda: config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, 1 << 30),
        lambda: setattr(config, "builder_optimization_level", 4),
    ):
        with pytest.raises(Misuse, match="after the build"):
            late()


def test_double_refuses_a_forgiving_timing_cache(started: Any) -> None:
    config = started[3]
    with pytest.raises(Misuse, match="ignore_mismatch"):
        config.set_timing_cache(config.create_timing_cache(b""), True)


def _context(trt: ModuleType, started: Any, path: Any, *flags: str) -> Any:
    logger, builder, network, config = started
    assert trt.OnnxParser(network, logger).parse_from_file(str(write_graph(path)))
    for flag in flags:
        config.set_flag(getattr(trt.BuilderFlag, flag))
    config.add_optimization_profile(_profile(trt, builder))
    plan = bytes(builder.build_serialized_network(network, config))
    return trt.Runtime(logger).deserialize_cuda_engine(plan)


def test_double_refuses_running_in_the_wrong_order(trt: ModuleType, started: Any, tmp_path: Any) -> None:
    context = _context(trt, started, tmp_path / "a.onnx").create_execution_context()
    with pytest.raises(Misuse, match="before a profile"):
        context.set_input_shape("input_ids", (2, 4))
    assert context.set_optimization_profile_async(0, 0)
    with pytest.raises(Misuse, match="before the shapes"):
        context.set_tensor_address("input_ids", 1)
    assert not context.set_input_shape("input_ids", (2, 9))
    assert context.set_input_shape("input_ids", (2, 4))
    assert context.infer_shapes() == ["attention_mask"]
    assert context.set_input_shape("attention_mask", (2, 4))
    with pytest.raises(Misuse, match="without the addresses"):
        context.execute_async_v3(0)


def test_double_refuses_a_refit_that_looks_for_nothing(trt: ModuleType, started: Any, tmp_path: Any) -> None:
    engine = _context(trt, started, tmp_path / "a.onnx", "REFIT")
    refitter = trt.Refitter(engine, trt.Logger())
    with pytest.raises(Misuse, match="before any weights"):
        refitter.refit_cuda_engine()
    assert trt.OnnxParserRefitter(refitter, trt.Logger()).refit_from_file(str(tmp_path / "a.onnx"))
    with pytest.raises(Misuse, match="looked for"):
        refitter.refit_cuda_engine()


def test_double_refuses_refitting_what_was_built_without(trt: ModuleType, started: Any, tmp_path: Any) -> None:
    with pytest.raises(Misuse, match="without REFIT"):
        trt.Refitter(_context(trt, started, tmp_path / "a.onnx"), trt.Logger())
