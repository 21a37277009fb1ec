"""The export process: a whole bundle or nothing, and broken engines never become one."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from perennial.continual.errors import BundleRejected, ConfigurationError, DataError, ParityFailed
from perennial.continual.learning.answering import answer
from perennial.exporters.build import choose_engine, engines_to_try, hardware_precisions
from perennial.exporters.bundle import (
    EngineKind,
    Manifest,
    Precision,
    digest,
    read_manifest,
    verify_bundle,
    write_manifest,
)
from perennial.exporters.golden import Golden, forget_texts
from perennial.exporters.graph import set_initializer
from perennial.exporters.job import Opened, export_bundle, main
from perennial.exporters.parity import check_parity, default_limits
from perennial.exporters.port import HeldOut
from perennial.exporters.runtime import load_engine
from perennial.exporters.spec import ExportPath, ExportResult, ExportSpec
from perennial.exporters.streams import LaterEngine
from perennial.exporters.text_classification.classifier import BundleClassifier
from perennial.exporters.text_classification.part import digest_labels
from perennial.exporters.text_classification.reference import TorchClassifier
from perennial.exporters.text_classification.texts import read_texts
from perennial.exporters.text_classification.tokens import TextTokenizer, padded
from perennial.exporters.timing import BESIDE, MEASURED, NEW
from perennial.exporters.trained import TrainedModel
from perennial.ops.settings import Settings
from perennial.ops.store.workspace import Workspace
from tests.component.exporters.conftest import TEXTS, export, write_texts, write_trained

pytestmark = pytest.mark.component

Break = Callable[[onnx.ModelProto], None]


def values(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    return {item.name: onnx.numpy_helper.to_array(item) for item in model.graph.initializer}


def scale_one_weight(model: onnx.ModelProto) -> None:
    name = next(item.name for item in model.graph.initializer if item.name.endswith("output.dense.weight.T"))
    set_initializer(model, name, values(model)[name] * 1.02)


def permute_logits(model: onnx.ModelProto) -> None:
    for name in ("head.weight", "head.bias"):
        set_initializer(model, name, values(model)[name][::-1])


def drop_mask(model: onnx.ModelProto) -> None:
    """Attention sees every position: the mask's integers become ones, pooling keeps the true mask."""
    cast = next(node for node in model.graph.node if node.name == "cast.attention_mask")
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array(1, np.int64), "one"))
    model.graph.node.insert(0, onnx.helper.make_node("Clip", ["attention_mask", "one", "one"], ["all.ones"]))
    cast.input[0] = "all.ones"


def zero_a_layer(model: onnx.ModelProto) -> None:
    for name, value in values(model).items():
        if name.startswith("encoder.encoder.layer.1.") and value.ndim == 2:
            set_initializer(model, name, np.zeros_like(value))


BROKEN: list[tuple[Break, str]] = [
    (scale_one_weight, "max_abs_logit"),
    (permute_logits, "agreement"),
    (drop_mask, "invariance"),
    (zero_a_layer, "agreement"),
]


def clone(bundle: Path, target: Path) -> Path:
    return Path(shutil.copytree(bundle, target))


def judge(trained: TrainedModel, bundle: Path) -> tuple[bool, str]:
    reference = TorchClassifier(trained, bundle / "tokenizer.json")
    verdict = check_parity(
        reference, BundleClassifier.load(bundle, threads=1), TEXTS, None, default_limits(Precision.FP32)
    )
    return verdict.accepted, "; ".join(verdict.reasons)


@pytest.mark.parametrize("built", [EngineKind.ONNXRUNTIME], indirect=True)
@pytest.mark.parametrize(("break_it", "reason"), BROKEN)
def test_parity_refuses_a_deliberately_broken_engine(
    built: ExportResult, trained: TrainedModel, tmp_path: Path, break_it: Break, reason: str
) -> None:
    assert judge(trained, built.bundle) == (True, "")
    bundle = clone(built.bundle, tmp_path / "broken")
    model = onnx.load(bundle / "model.onnx")
    break_it(model)
    onnx.save_model(model, bundle / "model.onnx")
    write_manifest(bundle, stale_manifest(bundle))
    accepted, reasons = judge(trained, bundle)
    assert not accepted
    assert reason in reasons
    with pytest.raises(BundleRejected, match="golden"):  # rows that are nobody's text prove as much
        Golden.read(built.bundle).check(load_engine(bundle, threads=1))


def test_golden_answers_hold_nobodys_text(built: ExportResult, trained: TrainedModel) -> None:
    written = (built.bundle / "golden.json").read_text("utf-8")
    assert set(json.loads(written)) == {"format", "tolerance", "inputs", "outputs", "beside"}
    golden_rows = Golden.read(built.bundle).inputs["input_ids"].rows
    theirs = set(map(tuple, TextTokenizer(built.bundle / "tokenizer.json").encode(TEXTS)))
    assert not theirs & set(golden_rows)
    lengths = sorted(map(len, golden_rows))
    assert lengths[0] < lengths[-1] == trained.max_length


def test_golden_answers_of_an_earlier_release_lose_their_texts(built: ExportResult, tmp_path: Path) -> None:
    bundle = clone(built.bundle, tmp_path / "older")
    golden = Golden.read(bundle)
    golden = {
        "tolerance": golden.tolerance,
        "texts": [f"what person {number} said" for number in range(8)],
        "input_ids": [list(row) for row in golden.inputs["input_ids"].rows],
        "logits": [list(row) for row in golden.outputs["logits"].rows],
    }
    (bundle / "golden.json").write_text(json.dumps(golden), "utf-8")
    write_manifest(bundle, stale_manifest(bundle))
    assert Golden.read(bundle) == replace(Golden.read(built.bundle), beside={})
    assert forget_texts(bundle, {"what person 2 said", "never said"})
    verify_bundle(bundle)
    left = json.loads((bundle / "golden.json").read_text("utf-8"))
    assert left == {
        "tolerance": golden["tolerance"],
        "input_ids": [row for place, row in enumerate(golden["input_ids"]) if place != 2],
        "logits": [row for place, row in enumerate(golden["logits"]) if place != 2],
    }
    assert not forget_texts(bundle, {"what person 3 said"}), "nothing to do"
    Golden.read(bundle).check(load_engine(bundle, threads=1))


def stale_manifest(bundle: Path) -> Manifest:
    """The manifest of a bundle that was altered behind its back, which verification must notice."""
    with pytest.raises(BundleRejected):
        verify_bundle(bundle)
    return read_manifest(bundle)


@pytest.mark.parametrize("built", [EngineKind.ONNXRUNTIME], indirect=True)
def test_parity_refuses_permuted_labels(built: ExportResult, trained: TrainedModel, tmp_path: Path) -> None:
    bundle = clone(built.bundle, tmp_path / "permuted")
    labels = [*trained.labels[1:], trained.labels[0]]
    (bundle / "labels.json").write_text(json.dumps(labels), "utf-8")
    stale = stale_manifest(bundle)
    write_manifest(bundle, replace(stale, part={**stale.part, "labels_sha256": digest_labels(labels)}))
    accepted, reasons = judge(trained, bundle)
    assert not accepted
    assert "6 of 6 labels stand at another logit than in the model; agreement 0.0000" in reasons


def test_bundle_holds_what_the_architecture_promises(built: ExportResult, trained: TrainedModel) -> None:
    manifest = verify_bundle(built.bundle)
    plain = {"tokenizer.json", "labels.json", "golden.json", "model.json"}
    plain |= {f"{name}.safetensors" for name in ("head", "statistics", "others")}
    engine = {"model.onnx"} if built.engine is EngineKind.ONNXRUNTIME else {"model.xml", "model.bin"}
    assert {name for name in manifest.files if "/" not in name} == plain | engine
    assert {"encoder/config.json", "encoder/model.safetensors", "encoder/tokenizer.json"} <= set(manifest.files)
    assert manifest.parity["accepted"] is True
    assert manifest.parity["rows"] == len(TEXTS)
    assert {"onnx", "torch", built.engine.value} <= set(manifest.toolchain)
    assert manifest.part["tokenizer_sha256"] == digest(built.bundle / "tokenizer.json")
    assert [path.name for path in built.bundle.parent.iterdir() if path.name.startswith(".")] == []
    again = TrainedModel.load(built.bundle)
    assert (again.labels, again.encoder_fingerprint) == (trained.labels, trained.encoder_fingerprint)
    assert again.encoder == built.bundle / "encoder"


def test_loaded_engine_repeats_its_golden_answers(built: ExportResult) -> None:
    engine, golden = load_engine(built.bundle, threads=1), Golden.read(built.bundle)
    assert golden.check(engine) < 1e-4
    golden_ids = golden.inputs["input_ids"]
    assert len(golden_ids.rows) == len(golden.outputs["logits"].rows) == 8
    spoilt = replace(
        golden, inputs={n: replace(k, rows=k.rows[::-1]) for n, k in golden.inputs.items()}, tolerance=0.001
    )
    with pytest.raises(BundleRejected, match="golden"):
        spoilt.check(engine)


def test_classifier_answers_in_order_whatever_the_batch(built: ExportResult) -> None:
    classifier = BundleClassifier.load(built.bundle, threads=1)
    whole, alone = classifier.predict(TEXTS, batch=7), [classifier.predict([text]) for text in TEXTS[:9]]
    assert whole.labels[:9] == [one.labels[0] for one in alone]
    np.testing.assert_allclose(whole.logits[:9], np.concatenate([one.logits for one in alone]), atol=5e-5)
    np.testing.assert_allclose(whole.confidences, np.exp(whole.logits).max(1) / np.exp(whole.logits).sum(1), rtol=1e-4)
    assert classifier.predict([]).logits.shape == (0, 6)


def test_engine_answers_many_threads_at_once(built: ExportResult) -> None:
    classifier = BundleClassifier.load(built.bundle, threads=1)
    wanted = classifier.predict(TEXTS, batch=4).logits
    with ThreadPoolExecutor(8) as pool:
        for seen in pool.map(lambda _: classifier.predict(TEXTS, batch=4).logits, range(16)):
            assert np.array_equal(seen, wanted)


def test_engine_refused_by_its_runtime_is_a_rejected_bundle(built: ExportResult, tmp_path: Path) -> None:
    bundle = clone(built.bundle, tmp_path / "garbage")
    (bundle / verify_bundle(built.bundle).engine_file).write_bytes(b"not an engine")
    write_manifest(bundle, stale_manifest(bundle))
    with pytest.raises(BundleRejected, match=f"{built.engine.value} refuses"):
        load_engine(bundle)


def test_openvino_cache_is_filled_and_used(built: ExportResult, tmp_path: Path) -> None:
    engine = load_engine(built.bundle, threads=1, cache_dir=tmp_path / "cache")
    golden = Golden.read(built.bundle)
    cached = list((tmp_path / "cache").glob("*/*.blob"))
    assert len(cached) == (1 if built.engine is EngineKind.OPENVINO else 0)
    assert (
        golden.check(load_engine(built.bundle, threads=1, cache_dir=tmp_path / "cache")) <= golden.check(engine) + 1e-6
    )


@pytest.mark.parametrize("built", [EngineKind.OPENVINO], indirect=True)
def test_cache_keeps_the_versions_loaded_last(built: ExportResult, tmp_path: Path) -> None:
    workspace = Workspace(Settings(state=tmp_path))
    caches = [workspace.engines(model) for model in ("intent", "tone")]
    for cache in (*caches, workspace.cache):  # nobody loses what another model's versions compiled
        for age in range(10):
            (cache / f"old{age}").mkdir(parents=True)
            os.utime(cache / f"old{age}", (1000 - age, 1000 - age))
    load_engine(built.bundle, threads=1, cache_dir=caches[0])
    left = {path.name for path in caches[0].iterdir()}
    assert {f"old{age}" for age in range(7)} < left
    assert len(left) == 8
    assert len(list(caches[1].iterdir())) == 10
    assert len(list(workspace.cache.iterdir())) == 10 + len(["engines"])


def spec_file(folder: Path, trained: Path, **changes: object) -> Path:
    record = {
        "trained_dir": str(trained), "out_dir": str(folder / "9"), "held_out": str(write_texts(folder / "held.json")),
        "model": "tiny", "version": 9, "engine": "onnxruntime", "precision": "fp32", "threads": 1,
        "lineage": {"parent_version": 8, "cycle_id": "c", "learner": "kernel_lda", "rows": 5, "replay_rows": 2},
    }  # fmt: skip
    path = folder / "spec.json"
    path.write_text(json.dumps(record | changes), "utf-8")
    return path


@pytest.mark.parametrize("built", [EngineKind.ONNXRUNTIME], indirect=True)
def test_process_writes_bundle_result_and_progress(built: ExportResult, trained: TrainedModel, tmp_path: Path) -> None:
    path = spec_file(tmp_path, trained.folder, previous_bundle=str(built.bundle))
    command = [sys.executable, "-m", "perennial.exporters.job", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    stages = [json.loads(line)["stage"] for line in done.stdout.splitlines()]
    assert stages == ["prepare", "weight_swap", "load_engine", "parity", "seal"]
    result = json.loads((tmp_path / "9.result.json").read_text("utf-8"))
    assert (result["path"], result["verdict"]["accepted"]) == ("weight_swap", True)
    assert result["manifest_sha256"] == digest(tmp_path / "9" / "manifest.json")
    assert verify_bundle(tmp_path / "9").lineage.cycle_id == "c"


@pytest.mark.parametrize("built", [EngineKind.ONNXRUNTIME], indirect=True)
def test_process_leaves_nothing_of_an_engine_that_parity_refuses(
    built: ExportResult, trained: TrainedModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / ".9.building-1").mkdir()  # left by an export that was killed
    path = spec_file(tmp_path, trained.folder, previous_bundle=str(built.bundle), limits={"mean_abs_logit": 0.0})
    assert main([str(path)]) == 4
    assert {item.name for item in tmp_path.iterdir()} == {"spec.json", "held.json", "9.result.json"}
    result = json.loads((tmp_path / "9.result.json").read_text("utf-8"))
    assert result["error"] == "ParityFailed"
    assert "mean_abs_logit" in capsys.readouterr().err


def test_process_refuses_a_wrong_spec(trained: TrainedModel, tmp_path: Path) -> None:
    assert main([str(spec_file(tmp_path, trained.folder, colour="red"))]) == 2
    assert main([str(spec_file(tmp_path, tmp_path))]) == 2
    assert main([str(spec_file(tmp_path, trained.folder, engine="abacus"))]) == 2
    assert main([]) == 2


def test_finished_version_is_never_written_over(built: ExportResult, trained: TrainedModel) -> None:
    spec = ExportSpec(trained_dir=trained.folder, out_dir=built.bundle, held_out=built.bundle, model="m", version=1)
    with pytest.raises(ConfigurationError, match="not empty"):
        export_bundle(spec)
    verify_bundle(built.bundle)


def test_auto_engine_is_one_this_cpu_computes_in_hardware() -> None:
    portable = (EngineKind.ONNXRUNTIME, Precision.FP32)
    fast = (EngineKind.OPENVINO, Precision.BF16)
    assert choose_engine() == (fast if Precision.BF16 in hardware_precisions() else portable)
    assert choose_engine("onnxruntime") == (EngineKind.ONNXRUNTIME, Precision.FP32)
    with pytest.raises(ConfigurationError, match="abacus"):
        choose_engine("abacus")


def test_where_the_choice_was_free_an_exact_engine_stands_behind_bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    fast, exact = (EngineKind.OPENVINO, Precision.BF16), (EngineKind.ONNXRUNTIME, Precision.FP32)
    monkeypatch.setattr(
        "perennial.exporters.build.hardware_precisions", lambda: frozenset({Precision.FP32, Precision.BF16})
    )
    assert engines_to_try() == (fast, exact)
    assert engines_to_try(before=fast) == (fast, exact)
    assert engines_to_try(before=exact) == (exact,)  # BF16 was refused for this model before
    assert engines_to_try("openvino") == (fast, (EngineKind.OPENVINO, Precision.FP32))
    assert engines_to_try("openvino", "bf16") == (fast,)
    monkeypatch.setattr("perennial.exporters.build.hardware_precisions", lambda: frozenset({Precision.FP32}))
    assert engines_to_try() == (exact,)


def test_an_engine_that_alters_the_answers_gives_way_to_the_next(
    trained: TrainedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = [(EngineKind.ONNXRUNTIME, Precision.INT8), (EngineKind.ONNXRUNTIME, Precision.FP32)]
    monkeypatch.setattr("perennial.exporters.job.engines_to_try", lambda *_, **__: tuple(tried))
    spec = ExportSpec(
        trained_dir=trained.folder, out_dir=tmp_path / "1", held_out=write_texts(tmp_path / "held.json"), model="tiny",
        version=1, threads=2, limits_by_precision={"int8": {"max_abs_logit": 1e-9}},
    )  # fmt: skip
    begun: list[tuple[Opened, Path]] = []
    finished: list[bool] = []

    def begin(opened: Opened, bundle: Path) -> Callable[[bool], None]:
        assert verify_bundle(bundle).version == 1
        begun.append((opened, bundle))
        return finished.append

    result = export_bundle(spec, meanwhile=begin)
    assert (result.engine, result.precision) == tried[1]
    assert finished == [False, True], "who goes on beside a proof is told how it ended"
    assert len(begun) == 2
    assert result.fallback_reason is not None
    assert result.fallback_reason.startswith("onnxruntime int8: ")
    assert "max_abs_logit 0." in result.fallback_reason
    assert verify_bundle(tmp_path / "1").precision is Precision.FP32
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1", "held.json"]
    tried.pop()
    with pytest.raises(ParityFailed, match="onnxruntime int8"):
        export_bundle(replace(spec, out_dir=tmp_path / "2"))
    assert not (tmp_path / "2").exists()


@pytest.mark.parametrize("built", [EngineKind.ONNXRUNTIME], indirect=True)
def test_engines_are_timed_as_they_are_at_work_with_their_second_copies(
    built: ExportResult, trained: TrainedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[object] = []
    monkeypatch.setattr(
        "perennial.exporters.streams.LaterEngine.make",
        lambda later, make=LaterEngine.make: (make(later), made.append(later.get())),
    )
    spec = ExportSpec(
        trained_dir=trained.folder, out_dir=tmp_path / "1", held_out=write_texts(tmp_path / "held.json"), model="tiny",
        version=1, threads=2, engine="onnxruntime", precision="fp32", beside=built.bundle,
    )  # fmt: skip
    export_bundle(spec)
    speeds = json.loads(read_manifest(tmp_path / "1").options[MEASURED])
    assert set(speeds) == {NEW, BESIDE}
    assert len(made) == 2
    assert None not in made


@pytest.mark.parametrize(
    ("name", "content", "texts", "labels"),
    [
        ("a.json", '{"texts": ["x", "y"], "labels": ["1", "2"]}', ["x", "y"], ["1", "2"]),
        ("a.json", '[{"text": "x", "label": "1"}]', ["x"], ["1"]),
        ("a.jsonl", '{"text": "x"}\n\n{"text": "y"}\n', ["x", "y"], None),
        ("a.jsonl", '{"text": "x", "label": "1"}\n', ["x"], ["1"]),
    ],
)
def test_texts_are_read_in_each_form(
    tmp_path: Path, name: str, content: str, texts: list[str], labels: list[str] | None
) -> None:
    (tmp_path / name).write_text(content, "utf-8")
    assert read_texts(tmp_path / name) == (texts, labels)


def test_texts_are_read_from_parquet(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"text": ["x"], "label": ["1"]}), tmp_path / "a.parquet")
    assert read_texts(tmp_path / "a.parquet") == (["x"], ["1"])


@pytest.mark.parametrize("content", ["", "[]", "nonsense", '{"texts": ["x"], "labels": []}', '[{"label": "1"}]'])
def test_texts_that_are_none_are_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "a.json").write_text(content, "utf-8")
    with pytest.raises(DataError, match=r"a\.json"):
        read_texts(tmp_path / "a.json")


def test_spread_takes_rows_from_the_whole_file() -> None:
    held = HeldOut(inputs=[str(i) for i in range(1000)], targets=[str(-i) for i in range(1000)]).spread(10)
    texts, labels = held.inputs, held.targets
    assert texts == [str(i) for i in range(0, 1000, 100)]
    assert labels == [str(-i) for i in range(0, 1000, 100)]
    assert HeldOut(inputs=["a", "b"]).spread(10) == HeldOut(inputs=["a", "b"])


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"head": "mlp"}, "mlp"),
        ({"labels": ["a", "b"]}, "do not fit 2 labels"),
        ({"labels": ["a"] * 6}, "repeat"),
        ({"max_length": 1}, "max_length"),
    ],
)
def test_trained_model_that_does_not_fit_itself_is_refused(
    encoder: Path, tmp_path: Path, change: dict[str, object], reason: str
) -> None:
    folder = write_trained(tmp_path / "t", encoder)
    record = json.loads((folder / "model.json").read_text("utf-8"))
    (folder / "model.json").write_text(json.dumps(record | change), "utf-8")
    with pytest.raises(DataError, match=reason):
        TrainedModel.load(folder)


@pytest.mark.parametrize("kind", ["ridge", "fused"])
def test_words_are_added_to_what_an_engine_answers(
    built: ExportResult, tmp_path: Path, encoder: Path, kind: str
) -> None:
    """A ridge's engine is that of a kernel LDA, and a fused head's that of a linear one: words are read beside it."""
    trained = write_trained(tmp_path / kind, encoder, kind=kind, seed=3)
    previous = built.bundle if kind == "ridge" else None
    result = export(tmp_path / "bundles", trained, built.engine, version=2, previous=previous)
    assert result.path is (ExportPath.FULL if previous is None else ExportPath.WEIGHT_SWAP), result.fallback_reason
    served = BundleClassifier.load(result.bundle, threads=1).predict(TEXTS)
    labels, logits = answer(trained, TEXTS, cache=tmp_path / "cache", threads=1)
    np.testing.assert_allclose(served.logits, logits, rtol=0, atol=5e-3)
    assert served.labels == [labels[place] for place in logits.argmax(axis=1)]
    tokens = TextTokenizer(result.bundle / "tokenizer.json").encode(TEXTS)
    without = load_engine(result.bundle, threads=1).infer(padded(tokens))["logits"]
    assert np.abs(served.logits - without).max() > 0.1
