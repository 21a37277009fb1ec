"""A small BERT compiled ahead of time on this CPU answers like the eager one, in every shape, and takes new weights."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from perennial.continual.errors import (
    BundleRejected,
    ConfigurationError,
    DataError,
    DependencyUnreachable,
    ExportFailed,
)
from perennial.exporters.aotinductor import (
    WEIGHTS,
    build_aotinductor,
    build_package,
    load_package,
    swap_weights,
    toolchain,
)
from perennial.exporters.aotinductor.toolchain import choose_compiler
from perennial.exporters.bundle import EngineKind, Lineage, Manifest, Precision, write_manifest
from perennial.exporters.runtime import load_engine
from perennial.exporters.text_classification.part import TextPart, digest_labels
from perennial.exporters.text_classification.tokens import token_inputs

pytestmark = [pytest.mark.component, pytest.mark.timeout(900)]  # the C++ compiler takes half a minute, alone
ROOT = Path(__file__).parents[2]


def classifier(seed: int, *, classes: int = 5) -> Any:
    """A BERT of one layer with masked mean pooling and a linear head, weights drawn from the seed."""
    import torch
    from transformers import BertConfig, BertModel

    class Classifier(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            config = BertConfig(
                hidden_size=32,
                num_hidden_layers=1,
                num_attention_heads=2,
                intermediate_size=64,
                vocab_size=100,
                max_position_embeddings=64,
            )
            self.encoder = BertModel(config, add_pooling_layer=False)
            self.head = torch.nn.Linear(32, classes)

        def forward(self, input_ids: Any, attention_mask: Any) -> tuple[Any, Any]:
            hidden = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
            mask = attention_mask[..., None].to(hidden.dtype)
            mean = (hidden * mask).sum(1) / mask.sum(1).clamp(min=1e-9)
            embedding = torch.nn.functional.normalize(mean, dim=1)
            return self.head(embedding), embedding

    torch.manual_seed(seed)
    return Classifier().eval()


def eager(module: Any, ids: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    import torch

    with torch.no_grad():
        logits, embedding = module(torch.from_numpy(ids), torch.from_numpy(mask))
    return logits.numpy(), embedding.numpy()


def rows(count: int, sequence: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(count * 100 + sequence)
    mask = (np.arange(sequence)[None, :] < rng.integers(1, sequence + 1, (count, 1))).astype(np.int64)
    return rng.integers(1, 100, (count, sequence)) * mask, mask


def selfish_compiler(folder: Path) -> Path:
    """A g++ that puts a copy of the C++ library into what it links, as some are set up to."""
    compiler = folder / "g++"
    compiler.write_text(
        "#!/bin/sh\n"
        'case " $* " in\n'
        '*" -shared "*) exec /usr/bin/g++ "$@" -static-libstdc++ -static-libgcc ;;\n'
        '*) exec /usr/bin/g++ "$@" ;;\n'
        "esac\n"
    )
    compiler.chmod(0o755)
    return compiler


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Compiled where the environment names a compiler whose packages crash beside torch."""
    folder = tmp_path_factory.mktemp("aotinductor")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CXX", str(selfish_compiler(folder)))
        build_package(classifier(0), folder / "model.pt2", device="cpu", max_batch=16, max_sequence=64)
    return folder / "model.pt2"


@pytest.fixture
def swapped(package: Path) -> Iterator[Path]:
    yield swap_weights(classifier(1), package)
    package.with_name(WEIGHTS).unlink()


def test_package_answers_like_the_eager_model_in_every_shape(package: Path) -> None:
    engine, module = load_package(package), classifier(0)
    for count, sequence in ((1, 1), (1, 7), (2, 8), (16, 64), (40, 3)):  # 40 rows go in three pieces
        ids, mask = rows(count, sequence)
        for got, wanted in zip(engine.infer(ids, mask), eager(module, ids, mask), strict=True):
            assert got.shape == wanted.shape
            np.testing.assert_allclose(got, wanted, atol=1e-5)


def test_package_is_opened_where_there_is_no_compiler(package: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; import numpy as np; "
        "from perennial.exporters.aotinductor import load_package; "
        "rows = np.ones((2, 3), np.int64); print(load_package(Path(sys.argv[1])).infer(rows, rows)[0].shape)"
    )
    world = {**os.environ, "PATH": str(tmp_path), "CXX": str(tmp_path / "none"), "PYTHONPATH": str(ROOT)}
    world["TORCHINDUCTOR_CACHE_DIR"] = str(tmp_path / "cache")  # nothing that an earlier build left
    done = subprocess.run(
        [sys.executable, "-c", code, str(package)], check=False, env=world, capture_output=True, text=True
    )
    assert done.stdout.strip() == "(2, 5)", done.stderr


def test_compiler_that_copies_the_standard_library_gives_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", str(selfish_compiler(tmp_path)))
    assert choose_compiler() == shutil.which("g++")
    monkeypatch.setenv("CXX", "/usr/bin/g++")
    assert choose_compiler() == "/usr/bin/g++"


@pytest.mark.parametrize(("candidates", "word"), [((), "none was found"), (("g++",), "do not")])
def test_no_fitting_compiler_is_unreachable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, candidates: tuple[str, ...], word: str
) -> None:
    selfish = selfish_compiler(tmp_path)
    monkeypatch.setattr(toolchain, "_ORDINARY", tuple(str(selfish) for _ in candidates))
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(DependencyUnreachable, match=word):
        choose_compiler()


def test_swapped_weights_answer_like_the_new_model_without_compiling(package: Path, swapped: Path) -> None:
    ids, mask = rows(9, 12)
    before = package.read_bytes()
    for got, wanted in zip(load_package(package).infer(ids, mask), eager(classifier(1), ids, mask), strict=True):
        np.testing.assert_allclose(got, wanted, atol=1e-5)
    assert package.read_bytes() == before
    assert swapped.name == WEIGHTS


def test_a_bundle_takes_the_code_of_the_one_before_and_is_served_by_the_runtime(package: Path, tmp_path: Path) -> None:
    bundle = tmp_path / "2"
    built = build_aotinductor(
        classifier(1), bundle, Precision.FP32, previous=package.parent, device="cpu", max_batch=16, max_sequence=64
    )
    assert built.options == {"path": "swap"}
    assert (bundle / "model.pt2").read_bytes() == package.read_bytes()
    labels = ("a", "b", "c", "d", "e")
    (bundle / "labels.json").write_text(json.dumps(labels))
    manifest = Manifest(
        model="intent",
        version=2,
        engine=EngineKind.AOTINDUCTOR,
        precision=Precision.FP32,
        engine_file=built.file,
        **TextPart(
            classes=5, dimension=32, max_length=64, labels_sha256=digest_labels(labels), tokenizer_sha256=""
        ).fields(),
        encoder_fingerprint="",
        graph_fingerprint="",
        created_at="2026-01-01T00:00:00+00:00",
        toolchain={},
        lineage=Lineage(),
    )
    write_manifest(bundle, manifest)
    ids, mask = rows(3, 5)
    logits = load_engine(bundle).infer(token_inputs(ids, mask))["logits"]
    np.testing.assert_allclose(logits, eager(classifier(1), ids, mask)[0], atol=1e-5)
    with (bundle / WEIGHTS).open("ab") as stream:
        stream.write(b"x")
    with pytest.raises(BundleRejected, match="altered"):
        load_engine(bundle)


def test_code_that_does_not_fit_is_not_taken(package: Path, tmp_path: Path) -> None:
    with pytest.raises(ExportFailed, match="encoder"):  # so it went on to compile, in the precision asked for
        build_aotinductor(classifier(0).head, tmp_path, Precision.BF16, previous=package.parent, device="cpu")
    assert not list(tmp_path.iterdir())


def test_weights_of_another_shape_are_refused(package: Path) -> None:
    with pytest.raises(ExportFailed, match="head"):
        swap_weights(classifier(0, classes=6), package)
    assert not package.with_name(WEIGHTS).exists()


def test_shapes_outside_what_was_compiled_are_refused(package: Path) -> None:
    engine = load_package(package)
    with pytest.raises(DataError, match="1 to 64"):
        engine.infer(*rows(1, 65))
    with pytest.raises(DataError, match="must both be"):
        engine.infer(rows(2, 4)[0], rows(3, 4)[1])


@pytest.mark.parametrize(
    ("field", "value", "word"),
    [("torch", "1.13.0", "1.13.0"), ("processor", "cpu AVX1024", "AVX1024"), ("format", "x", "format")],
)
def test_a_package_from_elsewhere_is_refused(package: Path, tmp_path: Path, field: str, value: str, word: str) -> None:
    record = json.loads(package.with_name("model.pt2.json").read_text())
    (tmp_path / "model.pt2").write_bytes(package.read_bytes())
    with pytest.raises(BundleRejected, match="missing"):
        load_package(tmp_path / "model.pt2")
    (tmp_path / "model.pt2.json").write_text(json.dumps({**record, field: value}))
    with pytest.raises(BundleRejected, match=word):
        load_package(tmp_path / "model.pt2")


def test_tf32_is_not_offered(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="tf32"):
        build_package(classifier(0), tmp_path / "model.pt2", precision=Precision.TF32, device="cpu")


def test_half_precision_needs_an_encoder_to_narrow(tmp_path: Path) -> None:
    with pytest.raises(ExportFailed, match="encoder"):
        build_package(classifier(0).head, tmp_path / "model.pt2", precision=Precision.BF16, device="cpu")


def test_a_device_that_is_not_here_is_unreachable(tmp_path: Path) -> None:
    with pytest.raises(DependencyUnreachable, match="NVIDIA GPU") as caught:
        build_package(classifier(0), tmp_path / "model.pt2", device="xpu")
    assert caught.value.exit_code == 3
