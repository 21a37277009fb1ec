"""A new head on a proved encoder is proved without torch, as strictly, and the bundle is the same."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from perennial.continual.errors import BundleRejected, ParityFailed
from perennial.exporters import job
from perennial.exporters.built import BuiltEngine
from perennial.exporters.bundle import EngineKind, Manifest, read_manifest, verify_bundle, write_manifest
from perennial.exporters.engine import Engine
from perennial.exporters.golden import Golden, Known
from perennial.exporters.spec import ExportPath, ExportResult, ExportSpec
from perennial.exporters.text_classification.export import TextExportable
from perennial.exporters.trained import TrainedModel
from perennial.exporters.weight_swap import swap_weights
from perennial.ops.making import proving_ahead
from tests.component.exporters.conftest import TEXTS, export, write_encoder, write_texts, write_trained

pytestmark = pytest.mark.component

ROWS = [(text, f"label {place % 2}") for place, text in enumerate(TEXTS)]
_WITHOUT_TORCH = """
import sys
from perennial.exporters.job import main
code = main(sys.argv[1:])
assert "torch" not in sys.modules, "torch was imported"
sys.exit(code)
"""


@pytest.fixture
def grown(encoder: Path, tmp_path: Path) -> Path:
    """Another head with more classes on the same encoder."""
    return write_trained(tmp_path / "grown", encoder, classes=11, seed=8)


@pytest.fixture(scope="module")
def low(trained: TrainedModel, tmp_path_factory: pytest.TempPathFactory) -> ExportResult:
    """A finished BF16 bundle, proved on rows of two classes, and exact embeddings beside it; no test alters them."""
    folder = tmp_path_factory.mktemp("low")
    how: dict[str, Any] = {"precision": "bf16", "embeddings": folder / "embeddings"}
    return export(folder, trained.folder, EngineKind.OPENVINO, held_out=_written(folder / "rows.json", ROWS), **how)


@pytest.fixture
def kept(low: ExportResult, tmp_path: Path) -> Path:
    """A copy of these exact embeddings, to which a test may add."""
    return shutil.copytree(low.bundle.parent / "embeddings", tmp_path / "embeddings")


def files(bundle: Path) -> dict[str, str]:
    return {name: record.sha256 for name, record in verify_bundle(bundle).files.items()}


def test_the_bundle_is_byte_for_byte_that_of_the_torch_proof(
    built: ExportResult, grown: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick = export(tmp_path / "quick", grown, built.engine, version=2, previous=built.bundle)
    monkeypatch.setattr(job._Export, "_proved_head", lambda *_: None)
    slow = export(tmp_path / "slow", grown, built.engine, version=2, previous=built.bundle)
    assert (quick.path, slow.path) == (ExportPath.WEIGHT_SWAP, ExportPath.WEIGHT_SWAP)
    assert (quick.verdict.reference, slow.verdict.reference) == (
        "head in numpy on the encoder proved with version 1",
        "FP32 torch model",
    )
    assert files(quick.bundle) == files(slow.bundle)
    assert quick.verdict.limits == slow.verdict.limits
    assert quick.verdict.agreement == slow.verdict.agreement == 1.0
    assert abs(quick.verdict.max_abs_logit - slow.verdict.max_abs_logit) < 1e-4


def test_it_needs_no_torch(built: ExportResult, grown: Path, tmp_path: Path) -> None:
    held_out = write_texts(tmp_path / "heldout.json")
    spec = ExportSpec(
        trained_dir=grown, out_dir=tmp_path / "2", engine=built.engine.value, precision="fp32", held_out=held_out,
        previous_bundle=built.bundle, model="intent", version=2, parity_rows=20, threads=1,
    )  # fmt: skip
    spec.write(tmp_path / "export.json", result=tmp_path / "result.json")
    subprocess.run([sys.executable, "-c", _WITHOUT_TORCH, str(tmp_path / "export.json")], check=True, timeout=120)
    assert json.loads((tmp_path / "result.json").read_text("utf-8"))["path"] == "weight_swap"


@pytest.mark.parametrize("broken", ["encoder", "head"])
def test_an_engine_that_a_swap_has_broken_is_found_and_built_anew(
    built: ExportResult, grown: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    """A swap that puts in other weights than the model's, by far more than any limit."""
    if broken == "encoder":
        write_encoder(tmp_path / "another", seed=7)

    def swap(self: TextExportable, bundle: Path, manifest: Manifest, folder: Path) -> BuiltEngine:
        head = dict(self.trained.head)
        wrong = replace(self.trained, head=head | {"bias": head["bias"][::-1]})
        if broken == "encoder":
            wrong = replace(self.trained, encoder=tmp_path / "another", encoder_fingerprint="another")
        return swap_weights(bundle, manifest, wrong, folder)

    monkeypatch.setattr(TextExportable, "swap", swap)
    made = export(tmp_path / "made", grown, built.engine, version=2, previous=built.bundle)
    assert made.path is ExportPath.FULL
    said = "the encoder in the swapped engine gives other values than version 1's engine does on this machine"
    assert (said in str(made.fallback_reason)) == (broken == "encoder")
    assert "max_abs_logit" in str(made.fallback_reason)


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The bundle of every engine that an export loads."""
    noted: list[Path] = []
    for name in ("load_engine", "load_exact", "open_engine"):
        monkeypatch.setattr(job, name, partial(_noted, noted, getattr(job, name)))
    return noted


def test_an_engine_whose_bundle_cannot_be_sealed_is_asked_nothing_and_left_nowhere(
    built: ExportResult, grown: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is opened while its files are read."""

    def refused(_folder: Path, _manifest: Manifest) -> Manifest:
        raise BundleRejected("a file is none that a bundle may have")

    def asked(*_: object) -> None:
        raise AssertionError("it was compared all the same")

    monkeypatch.setattr(job, "write_manifest", refused)
    monkeypatch.setattr(job, "check_parity", asked)
    with pytest.raises(BundleRejected, match="a file is none"):
        export(tmp_path / "made", grown, built.engine, version=2, previous=built.bundle)
    assert not list((tmp_path / "made").rglob("model.*"))


@pytest.mark.parametrize("known", ["of this machine", "of another processor", "of an earlier release"])
def test_values_that_another_processor_gave_send_nobody_back_to_the_whole_proof(
    built: ExportResult, grown: Path, tmp_path: Path, loads: list[Path], known: str
) -> None:
    """The engine before is asked on this machine, where the new one is."""
    bundle, golden = tmp_path / "1", Golden.read(built.bundle)
    shutil.copytree(built.bundle, bundle)
    if known != "of this machine":
        beside = {name: _further(each) for name, each in golden.beside.items() if known == "of another processor"}
        replace(golden, beside=beside).write(bundle)
        write_manifest(bundle, read_manifest(bundle))
    made = export(tmp_path / "made", grown, built.engine, version=2, previous=bundle)
    assert (made.path, made.fallback_reason) == (ExportPath.WEIGHT_SWAP, None)
    assert made.verdict.reference == "head in numpy on the encoder proved with version 1"
    assert len(loads) == (1 if known == "of this machine" else 2)
    assert Golden.read(made.bundle).beside.keys() == golden.beside.keys()


def _further(known: Known) -> Known:
    """The values, each by more than any processor rounds."""
    return replace(known, rows=tuple(tuple(value + 0.1 for value in row) for row in known.rows))


def test_an_encoder_that_moved_may_still_be_the_trained_one(
    built: ExportResult, grown: Path, encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An engine before that gives other values than the trained encoder: the torch proof has the last word."""
    write_encoder(tmp_path / "another", seed=7)
    before = export(tmp_path / "before", write_trained(tmp_path / "drifted", tmp_path / "another"), built.engine)

    def swap(self: TextExportable, bundle: Path, manifest: Manifest, folder: Path) -> BuiltEngine:
        return swap_weights(bundle, manifest, replace(self.trained, encoder_fingerprint="all of it"), folder)

    monkeypatch.setattr(TextExportable, "swap", swap)
    made = export(tmp_path / "made", grown, built.engine, version=2, previous=before.bundle)
    assert (made.path, made.verdict.reference) == (ExportPath.WEIGHT_SWAP, "FP32 torch model")


@pytest.mark.parametrize("steepness", [1.0, 300.0])
def test_what_a_low_precision_has_lost_counts_against_a_steeper_head_too(
    low: ExportResult, encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steepness: float
) -> None:
    """BF16 where the processor has it: the proof without torch accepts what the one by torch accepts, and no more."""
    engine = EngineKind.OPENVINO
    steep = write_trained(tmp_path / "steep", encoder, classes=6, seed=8, steepness=steepness)
    verdicts = []
    for name in ("quick", "slow"):
        try:
            export(tmp_path / name, steep, engine, precision="bf16", version=2, previous=low.bundle)
            verdicts.append("accepted")
        except ParityFailed:
            verdicts.append("refused")
        monkeypatch.setattr(job._Export, "_proved_head", lambda *_: None)
    assert verdicts[0] == verdicts[1]


@pytest.mark.parametrize("steepness", [1.0, 300.0])
def test_exact_embeddings_are_worked_out_once_for_all_heads_on_an_encoder(
    low: ExportResult,
    kept: Path,
    encoder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    loads: list[Path],
    steepness: float,
) -> None:
    """The proof on those that are known is as strict as the one by torch, and loads no engine but the new one."""
    steep = write_trained(tmp_path / "steep", encoder, classes=6, seed=8, steepness=steepness)
    own: dict[str, Any] = {"precision": "bf16", "version": 2, "previous": low.bundle}
    verdicts = []
    for name, folder in (("known", kept), ("slow", None)):
        try:
            made = export(tmp_path / name, steep, EngineKind.OPENVINO, embeddings=folder, **own)
            verdicts.append("accepted")
            if name == "known":
                assert len(loads) == 1
                assert made.verdict.reference == "head in numpy on the encoder proved with version 1"
        except ParityFailed:
            verdicts.append("refused")
        monkeypatch.setattr(job._Export, "_proved_head", lambda *_: None)
    assert verdicts[0] == verdicts[1]


@pytest.mark.parametrize(
    ("later", "label", "engines", "proved_on"),
    [(10, "label 1", 1, 64), (30, "label 1", 2, 64), (1, "label 5", 2, 65)],
    ids=["few more", "many more", "a class more"],
)
def test_rows_that_came_later_prove_later_heads_too(
    low: ExportResult,
    kept: Path,
    encoder: Path,
    tmp_path: Path,
    loads: list[Path],
    later: int,
    label: str,
    engines: int,
    proved_on: int,
) -> None:
    """A few wait for others; a class that none of the known rows has waits for nothing, and is worked out once."""
    more = [(f"{text} {text}", label) for text in TEXTS[5 : 5 + later]]
    how: dict[str, Any] = {"precision": "bf16", "embeddings": kept}
    held_out, made = _written(tmp_path / "later.json", [*ROWS, *more]), low
    for version, engines_loaded in ((2, engines), (3, 1)):
        head = write_trained(tmp_path / f"head-{version}", encoder, classes=6, seed=version, steepness=1.0)
        loads.clear()
        how |= {"version": version, "previous": made.bundle}
        made = export(tmp_path / "made", head, EngineKind.OPENVINO, held_out=held_out, **how)
        assert made.verdict.reference.startswith("head in numpy")
        assert (len(loads), made.verdict.rows) == (engines_loaded, proved_on)


def _written(path: Path, rows: Sequence[tuple[str, str]]) -> Path:
    path.write_text(json.dumps([{"text": text, "label": label} for text, label in rows]), "utf-8")
    return path


def _noted(loads: list[Path], load: Callable[..., Engine], bundle: Path, *what: Any, **how: Any) -> Engine:
    loads.append(bundle)
    return load(bundle, *what, **how)


def test_a_bundle_that_was_never_proved_proves_nothing(
    built: ExportResult, grown: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = Manifest.from_json
    monkeypatch.setattr(
        Manifest,
        "from_json",
        classmethod(lambda cls, text: honest(text.replace('"accepted": true', '"accepted": false'))),
    )
    made = export(tmp_path / "made", grown, built.engine, version=2, previous=built.bundle)
    assert made.verdict.reference == "FP32 torch model"


def test_every_solved_head_has_its_own_arithmetic(encoder: Path, tmp_path: Path) -> None:
    for kind in ("kernel_lda", "ridge", "linear", "fused"):
        model = TextExportable(TrainedModel.load(write_trained(tmp_path / kind, encoder, kind=kind)))
        assert model.own_arithmetic(_Nothing()) is not None


class _Nothing:
    def infer(self, inputs: Any) -> Any:
        return inputs


def test_a_waiting_export_has_the_rows_of_the_last_proof_known_in_full_precision(
    low: ExportResult, kept: Path, tmp_path: Path
) -> None:
    assert _known_ahead(low.bundle, kept, tmp_path, "a text that came since") == (len(ROWS), len(ROWS) + 1)


def test_a_row_that_is_erased_while_it_is_worked_out_does_not_become_known(
    low: ExportResult, kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = proving_ahead.load_exact

    def loaded(bundle: Path, **how: Any) -> Engine | None:
        (tmp_path / "rows.json").unlink()  # after it was read
        return load(bundle, **how)

    monkeypatch.setattr(proving_ahead, "load_exact", loaded)
    assert _known_ahead(low.bundle, kept, tmp_path, "a text of whoever leaves") == (len(ROWS), len(ROWS))


def _known_ahead(bundle: Path, kept: Path, folder: Path, new: str) -> tuple[int, int]:
    """How many rows are known before and after an export waits for them, all of which but one proved the champion."""
    rows = [*ROWS, (new, "label 0")]
    spec = ExportSpec(
        trained_dir=folder, out_dir=folder, held_out=_written(folder / "rows.json", rows), model="intent",
        version=1, embeddings=kept, threads=1,
    )  # fmt: skip
    spec.write(folder / "export.json", result=folder / "result.json")

    def known() -> int:
        exact = TextExportable.load(bundle).exact(kept)
        assert exact is not None
        return len(exact.known([text for text, _ in rows]))

    before = known()
    proving_ahead._made_ready(bundle, folder / "export.json", 1)
    return before, known()
