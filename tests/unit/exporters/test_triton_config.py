import pytest

from perennial.continual.errors import ConfigurationError
from perennial.exporters.text_classification.signature import TEXT_ENGINE, TEXT_ROUTER
from perennial.exporters.triton_config import (
    EngineBackend,
    EngineSpec,
    RouterSpec,
    engine_config,
    parse_config,
    router_config,
    versions_of,
    with_versions,
)


def test_router_config_names_inputs_outputs_and_parameters():
    config = parse_config(
        router_config(
            RouterSpec(
                signature=TEXT_ROUTER,
                model="intent",
                parameters={"route_path": "/w/route.json"},
                instances=3,
                max_batch_size=16,
            )
        )
    )
    assert (config.name, config.backend, config.max_batch_size) == ("intent", "perennial", 16)
    assert {tensor.name: tensor.optional for tensor in config.input} == {"TEXT": False, "KEY": True}
    assert [tensor.name for tensor in config.output][:4] == ["LABEL", "CONFIDENCE", "VERSION", "PREDICTION_ID"]
    assert config.parameters["route_path"].string_value == "/w/route.json"
    assert config.instance_group[0].count == 3
    assert not config.HasField("dynamic_batching")  # its thread misses wake-ups: a request waits for half a second
    assert not config.model_warmup


@pytest.mark.parametrize("backend", list(EngineBackend))
def test_engine_config_survives_a_round_trip_on_every_backend(backend):
    text = engine_config(
        EngineSpec(signature=TEXT_ENGINE, model="intent_engine", versions=(5, 2), backend=backend, max_batch_size=8)
    )
    config = parse_config(text)
    assert config.backend == backend.value
    assert list(config.version_policy.specific.versions) == [2, 5]
    assert [tensor.name for tensor in config.input] == ["input_ids", "attention_mask"]
    assert all(tensor.allow_ragged_batch is (backend is EngineBackend.PERENNIAL) for tensor in config.input)
    assert bool(config.model_warmup) is (backend is not EngineBackend.PERENNIAL)
    assert config.HasField("dynamic_batching") is (backend is not EngineBackend.PERENNIAL)
    assert with_versions(text, versions_of(text)) == text


def test_with_versions_changes_nothing_else():
    text = engine_config(EngineSpec(signature=TEXT_ENGINE, model="e", versions=(1,), threads=2, instances=2))
    changed = parse_config(with_versions(text, (3, 1)))
    before = parse_config(text)
    assert list(changed.version_policy.specific.versions) == [1, 3]
    changed.version_policy.CopyFrom(before.version_policy)
    assert changed == before


def test_tensorrt_profiles_are_named_on_a_gpu():
    group = parse_config(
        engine_config(EngineSpec(signature=TEXT_ENGINE, model="e", backend=EngineBackend.TENSORRT, profiles=("0", "1")))
    ).instance_group[0]
    assert list(group.profile) == ["0", "1"]
    assert group.Kind.Name(group.kind) == "KIND_GPU"


@pytest.mark.parametrize(
    "wrong",
    [
        {"model": "a/b"},
        {"model": "e", "versions": (0,)},
        {"model": "e", "instances": 0},
        {"model": "e", "threads": -1},
        {"model": "e", "profiles": ("0",)},
        {"model": "e", "queue_delay_us": 300},
        {"model": "e", "backend": EngineBackend.TENSORRT, "queue_delay_us": -1},
    ],
)
def test_a_wrong_engine_spec_is_refused(wrong):
    with pytest.raises(ConfigurationError):
        EngineSpec(signature=TEXT_ENGINE, **wrong)


def test_text_that_is_no_configuration_is_refused():
    with pytest.raises(ConfigurationError, match=r"not a model configuration"):
        parse_config("name: {")


@pytest.mark.parametrize(
    ("delay_us", "max_batch_size", "preferred"),
    [(0, 64, []), (300, 64, [16, 32, 64]), (300, 48, [16, 32, 48]), (300, 8, [4, 8]), (300, 4, [4]), (300, 1, [1])],
)
def test_batches_are_preferred_large_and_only_where_the_batcher_waits(delay_us, max_batch_size, preferred):
    spec = EngineSpec(
        signature=TEXT_ENGINE,
        model="e",
        backend=EngineBackend.TENSORRT,
        queue_delay_us=delay_us,
        max_batch_size=max_batch_size,
    )
    batching = parse_config(engine_config(spec)).dynamic_batching
    assert list(batching.preferred_batch_size) == preferred
    assert batching.max_queue_delay_microseconds == delay_us
