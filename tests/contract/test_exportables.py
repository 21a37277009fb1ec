"""What every task's trained models promise an export: files, signature, graph, known answers, a bundle that serves."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from perennial.continual.errors import BundleRejected, ConfigurationError
from perennial.continual.images import ImageStore, read_image
from perennial.continual.tasks import TASKS
from perennial.exporters.batches import row_count
from perennial.exporters.bundle import EngineKind, Precision, read_manifest, verify_bundle
from perennial.exporters.golden import Golden
from perennial.exporters.job import export_bundle
from perennial.exporters.parity import check_parity, default_limits
from perennial.exporters.port import Answerer, Exportable, exportable
from perennial.exporters.runtime import load_engine
from perennial.exporters.signature import EngineSignature
from perennial.exporters.spec import ExportPath, ExportResult, ExportSpec
from perennial.exporters.tasks import OPENED_BY, ROOMS, room_of
from perennial.exporters.torch_engine import TorchEngine
from tests.component.exporters.conftest import TEXTS, write_encoder, write_texts, write_trained
from tests.component.generation_fixtures import REWRITES, exported, train_decoder, write_decoder, write_rewrites
from tests.component.image_fixtures import COLOURS, coloured, write_image_encoder, write_names, write_trained_images
from tests.component.ranking_fixtures import asked_in_town, train_ranking, write_impressions

pytestmark = pytest.mark.component


@dataclass(frozen=True, kw_only=True)
class Case:
    """A task with a model of it that is trained in no time, and inputs in a file as an export reads them."""

    train: Callable[[Path, int], Path]  # a folder and a seed: another one changes the weights and nothing else
    hold_out: Callable[[Path], Path]
    inputs: Sequence[Any]
    targets: Callable[[Sequence[Any]], Sequence[Any]]  # by which answers are right
    exported: Callable[[], tuple[Path, ExportResult]] | None = None  # one of it that other tests have as well


def train_text(folder: Path, seed: int) -> Path:
    if not (folder / "encoder").is_dir():
        write_encoder(folder / "encoder")
    return write_trained(folder / f"trained-{seed}", folder / "encoder", seed=seed)


def train_rewriter(folder: Path, seed: int) -> Path:
    decoder = write_decoder(folder / f"decoder-{seed}", seed=seed)
    return train_decoder(folder / f"trained-{seed}", decoder)


def train_images(folder: Path, seed: int) -> Path:
    if not (folder / "encoder").is_dir():
        write_image_encoder(folder / "encoder", "convnext")
    return write_trained_images(folder / f"trained-{seed}", folder / "encoder", seed=seed)


CASES: dict[str, Case] = {  # one of the tasks of each room
    "text_classification": Case(
        train=train_text,
        hold_out=lambda folder: write_texts(folder / "held.json"),
        inputs=TEXTS,
        targets=lambda labels: labels,
    ),
    "generation": Case(
        train=train_rewriter,
        hold_out=lambda folder: write_rewrites(folder / "held.json"),
        inputs=REWRITES,
        targets=lambda texts: texts,
        exported=exported,
    ),
    "image_classification": Case(
        train=train_images,
        hold_out=lambda folder: write_names(folder / "held.json", ImageStore(folder / "images"))[0],
        inputs=[read_image(coloured(label, seed)) for seed in range(4) for label in COLOURS],
        targets=lambda labels: labels,
    ),
    "ranking": Case(
        train=lambda folder, seed: train_ranking(folder / f"trained-{seed}", seed=seed),
        hold_out=lambda folder: write_impressions(folder / "held.json"),
        inputs=asked_in_town(),
        targets=lambda lists: [dict.fromkeys(items[:3], 1.0) for items in lists],
    ),
}


def spec(task: str, folder: Path, trained: Path, version: int, **more: Any) -> ExportSpec:
    return ExportSpec(
        task=task,
        trained_dir=trained,
        out_dir=folder / str(version),
        held_out=CASES[task].hold_out(folder),
        model="tiny",
        version=version,
        engine=EngineKind.ONNXRUNTIME.value,
        precision="fp32",
        threads=1,
        memory=folder / "images",
        **more,
    )


@dataclass(frozen=True, kw_only=True)
class World:
    """A trained model and its bundle."""

    task: str
    case: Case
    folder: Path
    model: Exportable
    result: ExportResult


@pytest.fixture(scope="module", params=sorted(CASES))
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> World:
    task: str = request.param
    folder = tmp_path_factory.mktemp(task)
    if (shared := CASES[task].exported) is not None:
        trained, result = shared()
    else:
        trained = CASES[task].train(folder, 1)
        result = export_bundle(spec(task, folder, trained, 1))
    return World(task=task, case=CASES[task], folder=folder, model=exportable(task, trained), result=result)


def test_every_task_with_bundles_is_a_task_and_is_tried() -> None:
    assert set(CASES) <= set(ROOMS) <= set(TASKS)
    assert {ROOMS[task] for task in CASES} == set(ROOMS.values())
    with pytest.raises(ConfigurationError, match="'image' has no bundles here; known are "):
        room_of("image")


def test_a_bundle_names_its_task_signature_and_part(world: World) -> None:
    manifest = verify_bundle(world.result.bundle)
    assert manifest.task == world.task
    assert manifest.signature == world.model.signature == room_of(world.task).engine_signature(manifest.part)
    assert manifest.part == world.model.part(world.result.bundle)
    assert manifest.encoder_fingerprint == world.model.encoder_fingerprint
    assert EngineSignature.from_record(json.loads(json.dumps(manifest.signature.to_record()))) == manifest.signature


def test_a_part_that_lies_is_refused(world: World) -> None:
    manifest = read_manifest(world.result.bundle)
    for name in manifest.part:
        left = {key: value for key, value in manifest.part.items() if key != name}
        with pytest.raises(BundleRejected):
            room_of(world.task).check_bundle(world.result.bundle, left, manifest.files)


def test_a_bundle_is_a_trained_model_again(world: World) -> None:
    again = exportable(world.task, world.result.bundle)
    assert again.signature == world.model.signature
    assert again.part(world.result.bundle) == world.model.part(world.result.bundle)


def test_the_graph_takes_and_gives_what_the_signature_says(world: World) -> None:
    graph = onnx.load(world.result.bundle / read_manifest(world.result.bundle).engine_file).graph
    signature = world.model.signature
    if world.task in OPENED_BY:  # it goes through the graph again and again: the graph has tensors of its own
        assert not {value.name for value in graph.input} & set(signature.input_names)
        assert {"input_ids", "position_ids"} < {value.name for value in graph.input}
        return
    for tensors, values in ((signature.inputs, graph.input), (signature.outputs, graph.output)):
        assert tuple(value.name for value in values) == tuple(tensor.name for tensor in tensors)
        for tensor, value in zip(tensors, values, strict=True):
            kind = onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
            assert kind == np.dtype(tensor.numpy_type)
            sizes = [dim.dim_value or dim.dim_param for dim in value.type.tensor_type.shape.dim]
            assert len(sizes) == 1 + len(tensor.dims)
            known = (not isinstance(dim, int) or size == dim for dim, size in zip(tensor.dims, sizes[1:], strict=True))
            assert all(known)


def answerers(world: World) -> tuple[Answerer, Answerer]:
    folder = world.result.bundle
    reference = TorchEngine(world.model.module(), world.model.signature)
    return world.model.answerer(reference, folder), world.model.answerer(load_engine(folder, threads=1), folder)


def test_the_engine_answers_like_the_module_and_another_model_does_not(world: World) -> None:
    reference, candidate = answerers(world)
    limits = default_limits(Precision.FP32)
    assert reference.task == candidate.task == world.task
    assert check_parity(reference, candidate, world.case.inputs, None, limits).reasons == ()
    answered = candidate.answers(candidate.engine.infer(candidate.encode(world.case.inputs)))
    verdict = check_parity(reference, candidate, world.case.inputs, world.case.targets(answered), limits)
    assert verdict.accuracy == pytest.approx(1.0)
    other = exportable(world.task, world.case.train(world.folder, 2))
    stranger = other.answerer(TorchEngine(other.module(), other.signature), world.result.bundle)
    assert not check_parity(reference, stranger, world.case.inputs, None, limits).accepted


def test_encoded_rows_fit_the_signature(world: World) -> None:
    reference, _ = answerers(world)
    rows = reference.encode(world.case.inputs)
    assert set(rows) == set(world.model.signature.input_names)
    assert row_count(rows) == len(world.case.inputs)
    assert all(tensor.fits(rows[tensor.name].shape) for tensor in world.model.signature.inputs)
    assert world.model.signature.misfit(reference.engine.infer(rows), len(world.case.inputs)) == ""


def test_known_answers_are_the_models_and_nobodys(world: World) -> None:
    golden, engine = Golden.read(world.result.bundle), load_engine(world.result.bundle, threads=1)
    assert golden.check(engine) <= golden.tolerance
    assert set(golden.inputs) == set(world.model.signature.input_names)
    assert set(golden.outputs) == set(world.model.signature.proved)
    drawn = world.model.golden(world.result.bundle, 1)
    assert len(drawn) >= len(next(iter(golden.inputs.values())).rows) >= 1
    assert all(row_count(row) == 1 for row in drawn)
    again = world.model.golden(world.result.bundle, 1)
    assert all(np.array_equal(one[name], two[name]) for one, two in zip(drawn, again, strict=True) for name in one)


def test_held_out_rows_are_read_from_a_file(world: World, tmp_path: Path) -> None:
    held = world.model.read(world.case.hold_out(tmp_path), tmp_path / "images")
    assert list(held.inputs) == list(world.case.inputs)
    assert len(held.spread(5).inputs) == 5


def test_new_weights_go_into_the_old_engine(world: World) -> None:
    trained = world.case.train(world.folder, 3)
    made = export_bundle(spec(world.task, world.folder, trained, 3, previous_bundle=world.result.bundle))
    assert made.path in ExportPath
    assert made.verdict.accepted
    assert made.path is ExportPath.WEIGHT_SWAP or made.fallback_reason
    assert verify_bundle(made.bundle).graph_fingerprint
