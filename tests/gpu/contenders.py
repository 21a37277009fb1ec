"""Every way to run the classifier on this GPU: built once into a folder, opened by name, or the sentence why not."""

import contextlib
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from perennial.continual.errors import DependencyUnreachable
from perennial.exporters.aotinductor import build_package, load_package
from perennial.exporters.bundle import Precision
from perennial.exporters.tensorrt import BuildOptions, Profile, build_plan, detect_machine, load_plan, write_typed
from tests.gpu.model import DEVICE, MAX_LENGTH, Classifier

__all__ = ["CONTENDERS", "ENGINES", "PROFILES", "REFERENCE", "Infer", "Workshop", "plan_options"]

REFERENCE = "eager fp32"
NARROW = (Precision.FP16, Precision.BF16)
PRECISIONS = (Precision.FP32, *NARROW)
PROFILES = (
    Profile(best_batch=32, best_sequence=16, max_batch=128, max_sequence=32),
    Profile(best_batch=32, best_sequence=64, max_batch=128, max_sequence=MAX_LENGTH),
)
Infer = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]


def plan_options(precision: Precision) -> BuildOptions:
    """What each plan is built to."""
    return BuildOptions(precision=precision, profiles=PROFILES)


@dataclass(kw_only=True)
class Workshop:
    """`folder` keeps what was built, so that a later process opens it."""

    folder: Path
    classifier: Classifier
    _opened: dict[str, Infer] = field(default_factory=dict)

    def open(self, name: str) -> Infer:
        """The contender's `infer`; opened once.

        Raises:
            DependencyUnreachable: the contender's library is not here, or not for this GPU.
        """
        if name not in self._opened:
            self._opened[name] = CONTENDERS[name](self)
        return self._opened[name]

    def present(self) -> dict[str, Infer]:
        """Those contenders that are here, in the order of the table."""
        found = {}
        for name in CONTENDERS:
            with contextlib.suppress(DependencyUnreachable):
                found[name] = self.open(name)
        return found

    def graph(self, precision: Precision = Precision.FP32) -> Path:
        """The classifier as ONNX; in FP16 and BF16 with the types that a plan is built from."""
        path = self.folder / "onnx" / "fp32.onnx"
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            self.classifier.export(path)
        if precision is Precision.FP32:
            return path
        typed = path.with_name(f"{precision.value}.onnx")
        if not typed.is_file():
            write_typed(path, typed, precision)
        return typed

    def package(self, precision: Precision) -> Path:
        """The classifier as an AOTInductor package."""
        path = self.folder / "aotinductor" / precision.value / "model.pt2"
        if not path.with_name("model.pt2.json").is_file():
            build_package(
                self.classifier.module, path, precision=precision, device=DEVICE, max_batch=128, max_sequence=MAX_LENGTH
            )
        return path

    def plan(self, precision: Precision) -> Path:
        """The classifier as a TensorRT plan."""
        detect_machine()  # says in one sentence what is missing
        path = self.folder / "tensorrt" / precision.value / "model.plan"
        if not path.is_file():
            build_plan(self.graph(), path, plan_options(precision), cache_dir=self.folder / "cache")
        return path


def _onnxruntime_cuda(graph: Path) -> Infer:
    """ONNX Runtime's CUDA provider, with its inputs and outputs copied by itself."""
    if importlib.util.find_spec("onnxruntime") is None:
        raise DependencyUnreachable("onnxruntime is not installed here; pip install onnxruntime-gpu")
    import onnxruntime

    provider = "CUDAExecutionProvider"
    if provider not in onnxruntime.get_available_providers():
        raise DependencyUnreachable("onnxruntime has no CUDA provider here; pip install onnxruntime-gpu")
    session = onnxruntime.InferenceSession(str(graph), providers=[(provider, {"use_tf32": "0"})])
    if session.get_providers()[0] != provider:
        raise DependencyUnreachable("onnxruntime's CUDA provider does not start here; its own lines say why")

    def infer(ids: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        logits, embedding = session.run(["logits", "embedding"], {"input_ids": ids, "attention_mask": mask})
        return logits, embedding

    return infer


def _eager(precision: Precision) -> Callable[[Workshop], Infer]:
    return lambda shop: shop.classifier.narrowed(precision).answer


def _compiled(precision: Precision) -> Callable[[Workshop], Infer]:
    return lambda shop: shop.classifier.narrowed(precision).compiled().answer


def _packaged(precision: Precision, *, replay: bool) -> Callable[[Workshop], Infer]:
    return lambda shop: load_package(shop.package(precision), replay=replay).infer


def _onnx(precision: Precision) -> Callable[[Workshop], Infer]:
    return lambda shop: _onnxruntime_cuda(shop.graph(precision))


def _planned(precision: Precision) -> Callable[[Workshop], Infer]:
    return lambda shop: load_plan(shop.plan(precision)).infer


CONTENDERS: dict[str, Callable[[Workshop], Any]] = {
    **{f"eager {kind.value}": _eager(kind) for kind in PRECISIONS},
    **{f"torch.compile {kind.value}": _compiled(kind) for kind in (Precision.FP32, Precision.FP16)},
    **{f"onnxruntime cuda {kind.value}": _onnx(kind) for kind in (Precision.FP32, Precision.FP16)},
    "aotinductor fp16, kernels started one by one": _packaged(Precision.FP16, replay=False),
    **{f"aotinductor {kind.value}": _packaged(kind, replay=True) for kind in PRECISIONS},
    **{f"tensorrt {kind.value}": _planned(kind) for kind in PRECISIONS},
}
ENGINES = tuple(name for name in CONTENDERS if name != REFERENCE)
