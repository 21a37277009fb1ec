"""Build, probe, refit and run, in their own processes, on the strict doubles of TensorRT 10.16 and 11.4, and of RTX.

The answers are compared with ONNX Runtime on the FP32 graph: the double computes what the typed graph says.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from perennial.continual.errors import BundleRejected, DataError, ExportFailed, PerennialError
from perennial.exporters.bundle import Precision
from perennial.exporters.tensorrt import (
    BuildOptions,
    Flavour,
    Machine,
    PlanRecord,
    Portability,
    Profile,
    Refit,
    build_plan,
    build_tensorrt,
    load_plan,
    prove_plan,
    refit_or_build,
    refit_plan,
    worker,
)
from tests.doubles.tensorrt_behaviour import facts_of, weights_of
from tests.doubles.tensorrt_double import install, write_package
from tests.doubles.tensorrt_graph import rows, write_graph
from tests.doubles.tensorrt_listing import EVERY, RTX, VERSIONS

pytestmark = pytest.mark.component
ROOT = Path(__file__).parents[2]
SHORT = Profile(best_batch=2, best_sequence=4, max_batch=4, max_sequence=8)
LONG = Profile(best_batch=2, best_sequence=16, max_batch=3, max_sequence=32)
FP16 = BuildOptions(precision=Precision.FP16, profiles=(SHORT, LONG))


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """One version's double, imported here and on the children's path, with a built plan and its refitted copy."""

    version: str
    machine: Machine
    folder: Path
    graph: Path
    newer: Path
    plan: Path
    record: PlanRecord
    refitted: Path


def reference(graph: Path, ids: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    session = onnxruntime.InferenceSession(str(graph), providers=["CPUExecutionProvider"])
    logits, embedding = session.run(["logits", "embedding"], {"input_ids": ids, "attention_mask": mask})
    return logits, embedding


@pytest.fixture(scope="module", params=EVERY)
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    version: str = request.param
    folder = tmp_path_factory.mktemp("tensorrt")
    write_package(folder / "path", version)
    machine = Machine(gpu="NVIDIA H100", capability="9.0", cuda="12.8", tensorrt=version)
    if version == RTX:
        machine = replace(machine, gpu="NVIDIA L40S", capability="8.9", flavour=Flavour.RTX)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", f"{folder / 'path'}:{ROOT}")
        install(patch, version)
        graph, newer = write_graph(folder / "a.onnx"), write_graph(folder / "b.onnx", seed=5)
        plan, refitted = folder / "1" / "model.plan", folder / "2" / "model.plan"
        record = build_plan(graph, plan, FP16, cache_dir=folder / "cache", machine=machine, device="cpu")
        refit_plan(newer, plan, refitted, machine=machine, device="cpu")
        yield World(
            version=version,
            machine=machine,
            folder=folder,
            graph=graph,
            newer=newer,
            plan=plan,
            record=record,
            refitted=refitted,
        )


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Install a double with settings in this process and run one worker action on it here."""

    def act(action: str, version: str, spec: dict[str, Any], **settings: Any) -> dict[str, Any]:
        install(monkeypatch, version, **settings)
        folder = Path(spec["folder"])
        body = {"action": action, "cache_dir": None, "device": "cpu", "result": str(folder / "result.json"), **spec}
        (folder / "spec.json").write_text(
            json.dumps({key: str(v) if isinstance(v, Path) else v for key, v in body.items()})
        )
        worker.main([str(folder / "spec.json")])
        found: dict[str, Any] = json.loads((folder / "result.json").read_text())
        return found

    return act


def test_plan_answers_like_the_graph_it_was_made_from(world: World) -> None:
    engine = load_plan(world.plan, machine=world.machine, device="cpu")
    for count, sequence in ((1, 1), (4, 8), (9, 8), (3, 9), (7, 32)):
        ids, mask = rows(count, sequence)
        for got, wanted in zip(engine.infer(ids, mask), reference(world.graph, ids, mask), strict=True):
            assert got.dtype == np.float32
            np.testing.assert_allclose(got, wanted, atol=5e-3)
    logits, embedding = engine.infer(np.zeros((0, 4), np.int64), np.zeros((0, 4), np.int64))
    assert logits.shape == (0, 3)
    assert embedding.shape == (0, 8)


def test_padding_and_batch_do_not_change_an_answer(world: World) -> None:
    engine = load_plan(world.plan, machine=world.machine, device="cpu")
    ids, mask = rows(3, 6)
    alone = np.concatenate([engine.infer(ids[at : at + 1], mask[at : at + 1])[0] for at in range(3)])
    padded = engine.infer(np.pad(ids, ((0, 0), (0, 20))), np.pad(mask, ((0, 0), (0, 20))))[0]
    np.testing.assert_allclose(engine.infer(ids, mask)[0], alone, atol=5e-3)
    np.testing.assert_allclose(padded, alone, atol=5e-3)


def test_texts_beyond_the_longest_profile_are_refused(world: World) -> None:
    engine = load_plan(world.plan, machine=world.machine, device="cpu")
    with pytest.raises(DataError, match="1 to 32"):
        engine.infer(*rows(1, 33))
    with pytest.raises(DataError, match="must both be"):
        engine.infer(rows(1, 4)[0], rows(1, 5)[1])


def test_build_says_what_it_asked_for(world: World) -> None:
    facts = facts_of(world.plan)
    assert facts["flags"] == ["REFIT"]  # TF32 is cleared, and no flag speaks of precision
    assert facts["pools"] == {"WORKSPACE": 2 * 2**30}
    assert facts["detailed"]
    assert facts["profiles"][0]["input_ids"] == [[1, 1], [2, 4], [4, 8]]
    assert facts["profiles"][1]["attention_mask"] == [[1, 1], [2, 16], [3, 32]]
    assert facts["targets"] == (["SM89"] if world.machine.flavour is Flavour.RTX else [])
    assert world.record.path == "build"
    assert world.record.probed
    assert world.record.layers["MatMul"] == 6
    report = json.loads(world.plan.with_name("model.plan.layers.json").read_text())
    assert "I/O Tensors" in report
    assert "Bindings" not in report


def test_refit_equals_a_build_from_the_new_weights(world: World) -> None:
    rebuilt = world.folder / "3" / "model.plan"
    record = build_plan(
        world.newer, rebuilt, FP16, cache_dir=world.folder / "cache", machine=world.machine, device="cpu"
    )
    assert record.graph == world.record.graph
    ids, mask = rows(5, 12)
    pair = [load_plan(plan, machine=world.machine, device="cpu").infer(ids, mask) for plan in (world.refitted, rebuilt)]
    for refitted, built in zip(*pair, strict=True):
        np.testing.assert_array_equal(refitted, built)
    np.testing.assert_allclose(pair[0][0], reference(world.newer, ids, mask)[0], atol=5e-3)
    assert facts_of(world.refitted)["refittable"]
    caches = list((world.folder / "cache").glob("tensorrt-timing-*.bin"))
    builds = [json.loads(cache.read_bytes()[32:])["builds"] for cache in caches]
    assert builds == ([2] if world.machine.flavour is Flavour.TENSORRT else [])  # RTX measures nothing while it builds


def test_a_changed_graph_is_built_in_full(world: World) -> None:
    other = write_graph(world.folder / "other.onnx", activation="Relu")
    with pytest.raises(ExportFailed, match="same graph"):
        refit_plan(other, world.plan, world.folder / "4" / "model.plan", machine=world.machine, device="cpu")
    record = refit_or_build(
        other, world.plan, world.folder / "4" / "model.plan", FP16, machine=world.machine, device="cpu"
    )
    assert record.path == "build"


def test_a_bundle_is_refitted_from_the_one_before(world: World, tmp_path: Path) -> None:
    built = build_tensorrt(
        world.newer,
        tmp_path / "2",
        Precision.FP16,
        options=FP16,
        previous=world.plan.parent,
        machine=world.machine,
        device="cpu",
    )
    assert built.options == {"path": "refit", "version_compatible": "false"}
    assert {path.name for path in (tmp_path / "2").iterdir()} == {
        "model.plan",
        "model.plan.json",
        "model.plan.layers.json",
    }
    ids, mask = rows(2, 5)
    plan = load_plan(tmp_path / "2" / built.file, machine=world.machine, device="cpu")
    np.testing.assert_allclose(plan.infer(ids, mask)[0], reference(world.newer, ids, mask)[0], atol=5e-3)


@pytest.mark.parametrize("settings", [{"unset": ("head.bias",)}, {"missing": ("head.bias",)}])
def test_refit_with_a_weight_left_out_fails(world: World, here: Any, tmp_path: Path, settings: Any) -> None:
    typed = _typed(world.newer, tmp_path)
    spec = {
        "folder": tmp_path,
        "onnx": typed,
        "base": world.plan,
        "plan": tmp_path / "p",
        "record": world.record.to_json(),
    }
    result = here("refit", world.version, spec, **settings)
    assert result["error"] == "ExportFailed"
    assert "head.bias" in result["message"]
    assert not (tmp_path / "p").exists()
    assert "bytes" in here("refit", world.version, spec)


@pytest.mark.parametrize("rejects", ["profile", "build"])
def test_build_refused_by_tensorrt_leaves_no_plan(world: World, here: Any, tmp_path: Path, rejects: str) -> None:
    spec = {
        "folder": tmp_path,
        "onnx": _typed(world.graph, tmp_path),
        "plan": tmp_path / "p",
        "record": world.record.to_json(),
    }
    result = here("build", world.version, spec, rejects=(rejects,))
    assert result["error"] == "ExportFailed"
    assert not (tmp_path / "p").exists()


@pytest.mark.parametrize("rejects", ["context", "execute"])
def test_probe_of_a_plan_that_cannot_run_fails(world: World, here: Any, tmp_path: Path, rejects: str) -> None:
    spec = {"folder": tmp_path, "plan": world.plan, "record": world.record.to_json()}
    assert "TensorRT" in here("probe", world.version, spec, rejects=(rejects,))["message"]


def test_build_that_dies_is_an_export_failure_and_keeps_the_old_plan(world: World, tmp_path: Path) -> None:
    write_package(tmp_path / "path", world.version, dies=("Builder.build_serialized_network",))
    before = world.plan.read_bytes()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", f"{tmp_path / 'path'}:{ROOT}")
        with pytest.raises(ExportFailed, match="ended with exit code 11"):
            build_plan(world.graph, world.plan, FP16, machine=world.machine, device="cpu")
    assert world.plan.read_bytes() == before
    assert sorted(path.name for path in world.plan.parent.iterdir()) == [
        "model.plan",
        "model.plan.json",
        "model.plan.layers.json",
    ]


def test_foreign_version_or_gpu_is_refused_before_tensorrt_sees_the_plan(world: World) -> None:
    for foreign, word in (
        (replace(world.machine, tensorrt="10.13.0.35"), r"10\.13\.0\.35"),
        (replace(world.machine, gpu="NVIDIA T4", capability="7.5"), "NVIDIA T4"),
    ):
        with pytest.raises(BundleRejected, match=word):
            load_plan(world.plan, machine=foreign, device="cpu")


@pytest.mark.parametrize("world", [RTX], indirect=True)
def test_plan_built_without_a_gpu_serves_only_after_one_has_probed_it(world: World, tmp_path: Path) -> None:
    builder = Machine(gpu="", capability="", cuda="", tensorrt=world.version, flavour=Flavour.RTX)
    plan = tmp_path / "model.plan"
    options = replace(FP16, refit=Refit.NONE, targets=("8.9", "12.0"))
    record = build_plan(world.graph, plan, options, machine=builder, device="cpu")
    assert not record.probed
    assert facts_of(plan)["targets"] == ["SM89", "SM120"]
    with pytest.raises(BundleRejected, match="never answered"):
        load_plan(plan, machine=world.machine, device="cpu")
    with pytest.raises(BundleRejected, match=r"12\.0.*8\.6"):
        prove_plan(plan, machine=replace(world.machine, gpu="NVIDIA A10", capability="8.6"), device="cpu")
    proven = prove_plan(plan, machine=world.machine, device="cpu")
    assert proven.probed
    assert proven.layers["MatMul"] == 6
    ids, mask = rows(2, 5)
    engine = load_plan(plan, machine=world.machine, device="cpu")
    np.testing.assert_allclose(engine.infer(ids, mask)[0], reference(world.graph, ids, mask)[0], atol=5e-3)
    assert PlanRecord.from_json(plan.with_name("model.plan.json").read_text()) == proven


def test_damaged_plan_is_refused(world: World, tmp_path: Path) -> None:
    plan = tmp_path / "model.plan"
    plan.write_bytes(world.plan.read_bytes()[:-20])
    with pytest.raises(BundleRejected, match="no record"):
        load_plan(plan, machine=world.machine, device="cpu")
    (tmp_path / "model.plan.json").write_text(world.record.to_json())
    with pytest.raises(BundleRejected, match="refuses the plan"):
        load_plan(plan, machine=world.machine, device="cpu")
    (tmp_path / "model.plan.json").write_text("{}")
    with pytest.raises(BundleRejected, match="damaged"):
        load_plan(plan, machine=world.machine, device="cpu")


@pytest.mark.parametrize("world", VERSIONS, indirect=True)
@pytest.mark.parametrize(
    ("portability", "flags", "hardware"),
    [
        (Portability.EXACT, [], "NONE"),
        (Portability.SAME_CAPABILITY, [], "SAME_COMPUTE_CAPABILITY"),
        (Portability.AMPERE_PLUS, [], "AMPERE_PLUS"),
        (Portability.NEWER_TENSORRT, ["VERSION_COMPATIBLE"], None),
    ],
)
def test_portability_becomes_flags_and_a_plan_that_loads(
    world: World, here: Any, tmp_path: Path, portability: Portability, flags: list[str], hardware: str | None
) -> None:
    options = BuildOptions(precision=Precision.TF32, profiles=(SHORT,), refit=Refit.NONE, portability=portability)
    record = replace(world.record, options=options)
    spec = {"folder": tmp_path, "onnx": world.graph, "plan": tmp_path / "model.plan", "record": record.to_json()}
    assert "bytes" in here("build", world.version, spec)
    facts = facts_of(tmp_path / "model.plan")
    assert facts["flags"] == ["TF32", *flags]
    assert facts["hardware"] == hardware
    assert "I/O Tensors" in here("probe", world.version, spec)["report"]


def test_stripped_mould_serves_only_after_a_refit(world: World, here: Any, tmp_path: Path) -> None:
    options = replace(FP16, refit=Refit.STRIPPED)
    record = replace(world.record, options=options, stripped=True)
    spec = {
        "folder": tmp_path,
        "onnx": _typed(world.graph, tmp_path),
        "plan": tmp_path / "mould",
        "record": record.to_json(),
    }
    assert "bytes" in here("build", world.version, spec)
    assert facts_of(tmp_path / "mould")["flags"] == ["REFIT", "STRIP_PLAN"]
    (tmp_path / "mould.json").write_text(record.to_json())
    with pytest.raises(BundleRejected, match="stripped"):
        load_plan(tmp_path / "mould", machine=world.machine, device="cpu")
    refit = {**spec, "base": tmp_path / "mould", "plan": tmp_path / "model.plan"}
    assert "bytes" in here("refit", world.version, refit)
    full = {**refit, "record": replace(record, stripped=False).to_json()}
    assert "report" in here("probe", world.version, full)
    assert facts_of(tmp_path / "model.plan")["refittable"]
    assert set(weights_of(tmp_path / "model.plan")) == set(weights_of(world.plan))


@pytest.mark.parametrize("world", VERSIONS, indirect=True)
@pytest.mark.parametrize("content", [b"", b"torn", None])
def test_timing_cache_that_does_not_fit_is_begun_anew(
    world: World, here: Any, tmp_path: Path, content: bytes | None
) -> None:
    from perennial.exporters.tensorrt.timing import timing_cache_path

    path = timing_cache_path(tmp_path / "cache", world.machine, FP16)
    path.parent.mkdir()
    kept = next((world.folder / "cache").glob("*.bin")).read_bytes()
    path.write_bytes(kept if content is None else content)
    spec = {
        "folder": tmp_path,
        "onnx": _typed(world.graph, tmp_path),
        "plan": tmp_path / "p",
        "record": world.record.to_json(),
        "cache_dir": str(tmp_path / "cache"),
    }
    assert "bytes" in here("build", world.version, spec, rejects=("cache",) if content is None else ())
    assert json.loads(path.read_bytes()[32:])["builds"] == 1


def test_unparseable_graph_is_named(world: World, here: Any, tmp_path: Path) -> None:
    (tmp_path / "typed.onnx").write_bytes(b"no graph")
    spec = {
        "folder": tmp_path,
        "onnx": tmp_path / "typed.onnx",
        "plan": tmp_path / "p",
        "record": world.record.to_json(),
    }
    assert "cannot parse typed.onnx" in here("build", world.version, spec)["message"]


def _typed(graph: Path, folder: Path) -> Path:
    from perennial.exporters.tensorrt import write_typed

    write_typed(graph, folder / "typed.onnx", Precision.FP16)
    return folder / "typed.onnx"


def test_errors_of_a_worker_keep_their_kind(world: World, tmp_path: Path) -> None:
    record = replace(world.record, machine=replace(world.machine, tensorrt="10.13.0.35"))
    (tmp_path / "model.plan").write_bytes(world.plan.read_bytes())
    (tmp_path / "model.plan.json").write_text(record.to_json())
    with pytest.raises(PerennialError, match=r"10\.13\.0\.35"):
        refit_plan(world.newer, tmp_path / "model.plan", tmp_path / "new.plan", machine=world.machine, device="cpu")
