"""AOTInductor: a torch model compiled ahead of time into a `.pt2` package, for CUDA or the CPU.

A package is compiled code: loading one runs it. It is opened only out of a bundle whose manifest has been verified, and
never from a place that others may write to. Its weights can be replaced without compiling, from a safetensors file.
"""

import copy
import hashlib
import json
import threading
import time
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from continual.errors import BundleRejected, ConfigurationError, DataError, DependencyUnreachable, ExportFailed
from exporters.bundle import Precision, read_manifest

if TYPE_CHECKING:
    import torch

__all__ = ["WEIGHTS", "AotInductorEngine", "PackageRecord", "build_package", "load", "load_package", "swap_weights"]

Tokens = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]

FORMAT = "perennial.aotinductor/1"
WEIGHTS = "model.weights.safetensors"  # beside the package: loaded over the weights that were compiled in
_DTYPES = {Precision.FP32: "float32", Precision.BF16: "bfloat16", Precision.FP16: "float16"}
_INDUCTOR = {"always_keep_tensor_constants": True}  # else small biases are written into the code, where no swap reaches
_CPU_LEVELS = ("DEFAULT", "NO AVX", "AVX2", "AVX512")


@dataclass(frozen=True, slots=True, kw_only=True)
class PackageRecord:
    """What lies beside a package as `<package>.json`: what it was compiled by, for, and up to which shapes.

    `processor` is the GPU's name and compute capability, or the CPU's vector level. `weights` maps each replaceable
    weight to its type and shape; `fixed` maps those that the compiler kept no place for to a digest of their values.
    """

    torch: str
    device: str
    processor: str
    precision: str
    max_batch: int
    max_sequence: int
    seconds: float
    weights: Mapping[str, str]
    fixed: Mapping[str, str]

    def to_json(self) -> str:
        """The record as it lies on disk."""
        return json.dumps({"format": FORMAT, **asdict(self)}, indent=1, sort_keys=True) + "\n"

    @classmethod
    def read(cls, package: Path) -> "PackageRecord":
        """The record beside `package`.

        Raises:
            BundleRejected: there is none, or it is not of this format.
        """
        path = package.with_name(f"{package.name}.json")
        try:
            raw = json.loads(path.read_text(encoding="utf-8"))
            if raw.pop("format") != FORMAT:
                raise BundleRejected(f"{path} is not of format {FORMAT!r}; export the version again")
            return cls(**raw)
        except (OSError, AttributeError, KeyError, TypeError, ValueError) as exc:
            raise BundleRejected(f"{path} is missing or damaged ({exc}); export the version again") from exc


def build_package(
    module: "torch.nn.Module",
    package: Path,
    *,
    precision: Precision = Precision.FP32,
    device: str = "cuda",
    max_batch: int = 128,
    max_sequence: int = 512,
) -> PackageRecord:
    """Compile `module(input_ids, attention_mask) -> (logits, embedding)` into `package`, its record beside it.

    Batch 1 to `max_batch` and sequence 1 to `max_sequence` are one compiled graph. In BF16 and FP16 the submodule
    `encoder` computes narrow and the head stays FP32. `module` is left as it was.

    Raises:
        DependencyUnreachable: `device` is cuda and there is none, or there is no C++ compiler.
        ExportFailed: torch could not export or compile the module.
    """
    import torch
    from torch._inductor import aoti_compile_and_package

    if precision not in _DTYPES:
        raise ConfigurationError(f"AOTInductor has no {precision.value}; choose one of {sorted(_DTYPES)}")
    processor = _processor(device)
    started = time.perf_counter()
    package.parent.mkdir(parents=True, exist_ok=True)
    wrapped = _prepare(module, precision).to(device)
    rows = torch.ones((2, min(8, max_sequence)), dtype=torch.int64, device=device)
    axes = {
        0: torch.export.Dim("batch", min=1, max=max_batch),
        1: torch.export.Dim("sequence", min=1, max=max_sequence),
    }
    try:
        # the default device is for tensors that a forward pass makes without naming one
        with torch.no_grad(), torch.device(device), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns of its own internals here (2.13)
            program = torch.export.export(wrapped, (rows, rows.clone()), dynamic_shapes=(axes, axes))
            aoti_compile_and_package(program, package_path=str(package), inductor_configs=_INDUCTOR)
    except Exception as exc:  # torch raises dozens of unrelated types here, and all mean the same to the caller
        if "compiler" in str(exc).lower() and "not found" in str(exc).lower():
            raise DependencyUnreachable(f"AOTInductor needs a C++ compiler: {_first_line(exc)}; install g++") from exc
        raise ExportFailed(
            f"AOTInductor could not compile {type(module).__name__} for {device}: {_first_line(exc)}"
        ) from exc
    record = PackageRecord(
        torch=torch.__version__,
        device=torch.device(device).type,
        processor=processor,
        precision=precision.value,
        max_batch=max_batch,
        max_sequence=max_sequence,
        seconds=time.perf_counter() - started,
        **_replaceable(package, wrapped),
    )
    package.with_name(f"{package.name}.json").write_text(record.to_json(), encoding="utf-8")
    return record


def swap_weights(module: "torch.nn.Module", package: Path) -> Path:
    """Write `module`'s weights beside `package`, where the next load puts them over the compiled ones.

    The package itself is neither compiled nor changed. Returns the file.

    Raises:
        ExportFailed: the weights' names, shapes or types are not the package's, or a fixed one changed.
    """
    from safetensors.torch import save_file

    record = PackageRecord.read(package)
    everything = _weights(_prepare(module, Precision(record.precision)))
    weights = {name: value for name, value in everything.items() if name not in record.fixed}
    fixed = {name: _digest(value) for name, value in everything.items() if name in record.fixed}
    seen, wanted = {**_describe(weights), **fixed}, {**record.weights, **record.fixed}
    if seen != wanted:
        wrong = sorted(name for name in {*seen, *wanted} if seen.get(name) != wanted.get(name))
        raise ExportFailed(f"weights {wrong[:3]} do not fit {package.name} ({len(wrong)} differ); compile it in full")
    path = package.with_name(WEIGHTS)
    temporary = path.with_suffix(".tmp")
    save_file({name: value.detach().cpu().clone() for name, value in weights.items()}, temporary)
    temporary.replace(path)
    return path


def load(bundle: Path) -> "AotInductorEngine":
    """The engine of a verified bundle, on the device it was compiled for.

    Raises:
        BundleRejected: compiled by another torch, or for another processor.
        DependencyUnreachable: it needs a GPU and there is none.
    """
    return load_package(bundle / read_manifest(bundle).engine_file)


def load_package(package: Path) -> "AotInductorEngine":
    """The engine in `package`, with the weights that lie beside it, if any; see `load`."""
    import torch

    record = PackageRecord.read(package)
    if record.torch.split("+")[0] != torch.__version__.split("+")[0]:
        raise BundleRejected(
            f"{package} was compiled by torch {record.torch}, here is {torch.__version__}; export again"
        )
    here = _processor(record.device)
    if not _runs_on(record, here):
        raise BundleRejected(f"{package} was compiled for {record.processor}, here is {here}; export again here")
    return AotInductorEngine(package, record)


class AotInductorEngine:
    """A loaded package. Callers wait for each other: one runner holds one set of scratch memory."""

    def __init__(self, package: Path, record: PackageRecord) -> None:
        from torch._inductor import aoti_load_package

        self._record = record
        self._compiled: Any = aoti_load_package(str(package))
        self._lock = threading.Lock()
        weights = package.with_name(WEIGHTS)
        if weights.is_file():
            self._put(weights)

    def infer(self, input_ids: Tokens, attention_mask: Tokens) -> tuple[Floats, Floats]:
        """Logits (B, C) and embeddings (B, d) of token rows (B, S); larger batches than compiled for go in pieces.

        Raises:
            DataError: the two arrays differ in shape, have no rows, or S is outside what was compiled.
        """
        limit = self._record.max_sequence
        if input_ids.ndim != 2 or input_ids.shape != attention_mask.shape or not input_ids.shape[0]:
            raise DataError(
                f"input_ids {input_ids.shape} and attention_mask {attention_mask.shape} must both be (B, S)"
            )
        if not 1 <= input_ids.shape[1] <= limit:
            raise DataError(f"texts of {input_ids.shape[1]} tokens; this engine takes 1 to {limit}: truncate them")
        step = self._record.max_batch
        with self._lock:
            pieces = [
                self._run(input_ids[at : at + step], attention_mask[at : at + step])
                for at in range(0, len(input_ids), step)
            ]
        logits, embedding = (np.concatenate(part) for part in zip(*pieces, strict=True))
        return logits, embedding

    def _run(self, input_ids: Tokens, attention_mask: Tokens) -> tuple[Floats, Floats]:
        import torch

        ids, mask = (
            torch.from_numpy(np.array(rows, dtype=np.int64)).to(self._record.device)
            for rows in (input_ids, attention_mask)
        )
        with torch.no_grad():
            logits, embedding = self._compiled(ids, mask)
        return logits.float().cpu().numpy(), embedding.float().cpu().numpy()

    def _put(self, path: Path) -> None:
        from safetensors.torch import load_file

        weights = load_file(str(path), device=self._record.device)
        if _describe(weights) != dict(self._record.weights):
            raise BundleRejected(f"{path} has other weights than its package was compiled with; export again")
        self._compiled.load_constants(weights, check_full_update=True, user_managed=False)


def _prepare(module: "torch.nn.Module", precision: Precision) -> "torch.nn.Module":
    """A copy in eval mode whose encoder computes narrow and answers in FP32."""
    import torch

    copied = copy.deepcopy(module).eval()
    if precision is Precision.FP32:
        return copied
    encoder = getattr(copied, "encoder", None)
    if not isinstance(encoder, torch.nn.Module):
        raise ExportFailed(
            f"{type(module).__name__} has no submodule 'encoder' to compute in {precision.value}; export it as fp32"
        )
    kind = getattr(torch, _DTYPES[precision])
    encoder.to(kind)
    encoder.register_forward_pre_hook(lambda _module, given, named: _narrow(given, named, kind), with_kwargs=True)
    encoder.register_forward_hook(lambda _module, _inputs, output: _widen(output))
    return copied


def _narrow(given: tuple[Any, ...], named: dict[str, Any], kind: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The encoder's inputs with floating tensors (an additive mask) in its own type."""
    import torch

    def cast(value: Any) -> Any:
        return value.to(kind) if isinstance(value, torch.Tensor) and value.is_floating_point() else value

    return tuple(cast(value) for value in given), {name: cast(value) for name, value in named.items()}


def _widen(output: Any) -> Any:
    """The encoder's answer with its floating tensors in FP32, so that pooling and head compute there."""
    import torch

    if isinstance(output, torch.Tensor):
        return output.float() if output.is_floating_point() else output
    if isinstance(output, Mapping):
        for name, value in output.items():
            output[name] = _widen(value)  # type: ignore[index]  # a ModelOutput is an OrderedDict of its fields
        return output
    return type(output)(_widen(value) for value in output) if isinstance(output, tuple) else output


def _weights(module: "torch.nn.Module") -> dict[str, Any]:
    """Parameters and buffers by name, those that no checkpoint keeps included: a package holds them all."""
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


def _replaceable(package: Path, module: "torch.nn.Module") -> dict[str, dict[str, str]]:
    """Which weights a later swap reaches, and which it does not."""
    from torch._inductor import aoti_load_package

    known = set(aoti_load_package(str(package)).get_constant_fqns())
    everything = _weights(module)
    kept = {name: value for name, value in everything.items() if name in known}
    fixed = {name: _digest(value) for name, value in everything.items() if name not in known}
    return {"weights": _describe(kept), "fixed": fixed}


def _digest(value: "torch.Tensor") -> str:
    import torch

    return hashlib.sha256(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes()).hexdigest()


def _describe(weights: Mapping[str, Any]) -> dict[str, str]:
    return {name: f"{value.dtype} {tuple(value.shape)}" for name, value in sorted(weights.items())}


def _processor(device: str) -> str:
    import torch

    kind = torch.device(device).type
    if kind == "cpu":
        return f"cpu {torch.backends.cpu.get_cpu_capability()}"
    if kind != "cuda" or not torch.cuda.is_available():
        raise DependencyUnreachable(
            f"an AOTInductor engine for {kind} needs an NVIDIA GPU that torch can see, and there is none here; "
            "run on a machine with one, or choose the engine openvino or onnxruntime"
        )
    major, minor = torch.cuda.get_device_capability()
    return f"{torch.cuda.get_device_name()} {major}.{minor}"


def _runs_on(record: PackageRecord, here: str) -> bool:
    """A GPU's code runs on its own kind; a CPU's also on one with wider vectors."""
    if record.device != "cpu":
        return record.processor == here
    built, now = (_level(name.removeprefix("cpu ")) for name in (record.processor, here))
    return built <= now


def _level(capability: str) -> int:
    return _CPU_LEVELS.index(capability) if capability in _CPU_LEVELS else len(_CPU_LEVELS)


def _first_line(exc: BaseException) -> str:
    return (str(exc).strip().splitlines() or [type(exc).__name__])[0][:300]
