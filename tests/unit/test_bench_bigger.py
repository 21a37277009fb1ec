"""What is foretold of bigger models: formulae against models without memory, and a plan that adds up."""

from typing import Any

import pytest

from benchmarks.bigger import plan
from benchmarks.bigger_shapes import SHAPES, Shape
from perennial.continual.learning.generation.adapter import Adapter

_PUBLISHED = {  # as the model cards and papers state them
    "Llama-2-7B": 6_738_415_616,
    "Mistral-7B": 7_241_732_096,
    "Qwen2-7B": 7_615_616_512,
    "Llama-3-8B": 8_030_261_248,
}


def made(name: str, **change: Any) -> Any:
    """The model on no device: it has shapes and no numbers."""
    import torch
    import transformers

    given = dict(SHAPES[name]) | change
    config = transformers.AutoConfig.for_model(given.pop("model_type"), **given)
    auto: Any = transformers.AutoModelForCausalLM if Shape.of(SHAPES[name]).writes else transformers.AutoModel
    with torch.device("meta"):
        more = {} if Shape.of(SHAPES[name]).writes else {"add_pooling_layer": False}
        return auto.from_config(config, attn_implementation="eager", **more).eval()


@pytest.mark.parametrize("name", sorted(SHAPES))
def test_weights_keys_adapters_and_operations_are_those_of_the_model(name: str) -> None:
    """With three layers: those that are built alike tell the same of all."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    model, shape = made(name, num_hidden_layers=3), Shape.of({**SHAPES[name], "num_hidden_layers": 3})
    assert sum(part.numel() for part in model.parameters()) == shape.weights
    ids = torch.zeros((1, 7), dtype=torch.int64, device="meta")
    with FlopCounterMode(display=False) as counter:
        given = {"use_cache": True, "logits_to_keep": 1} if shape.writes else {}
        answered = model(input_ids=ids, **given)
    assert counter.get_total_flops() == pytest.approx(shape.operations(7), rel=1e-3)
    if shape.writes:
        kept = sum(part.numel() for layer in answered.past_key_values.layers for part in (layer.keys, layer.values))
        assert kept == 7 * shape.kv_bytes(1)
        adapter = Adapter.fresh(model, rank=2, seed=0)
        assert sum(part.numel() for part in adapter.parameters) == shape.adapter_weights(2)


@pytest.mark.parametrize("name", sorted(_PUBLISHED))
def test_the_whole_has_as_many_weights_as_is_published(name: str) -> None:
    assert Shape.of(SHAPES[name]).weights == _PUBLISHED[name]


def test_a_plan_says_what_fits_and_what_does_not() -> None:
    small, large = (plan(Shape.of(SHAPES[name])) for name in ("SmolLM2-135M", "Mistral-7B"))
    assert (small["export"]["onnx_files"], small["export"]["fits_one_protobuf"]) == (1, True)
    assert (large["export"]["fits_one_protobuf"], large["export"]["safetensors_shards"]) == (False, 3)
    assert large["versions"]["adapter_bytes"] < large["versions"]["weights_bytes"] / 500
    for device in large["devices"].values():
        whole, adapters = device["streams_with_two_versions"], device["streams_with_two_adapters"]
        assert 0 <= whole <= adapters
    assert large["devices"]["L4"]["streams_with_two_versions"] == 0
    assert large["devices"]["L4"]["streams_with_two_adapters"] > 0


def test_another_kind_of_model_is_refused() -> None:
    with pytest.raises(ValueError, match="model_type is 'mamba'"):
        Shape.of({"model_type": "mamba"})
