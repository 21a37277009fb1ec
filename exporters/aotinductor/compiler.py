"""From a torch module to a `.pt2` package: exported, narrowed where asked, compiled ahead of time."""

import copy
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perennial.continual.errors import ConfigurationError, DependencyUnreachable, ExportFailed
from perennial.exporters.aotinductor.opening import open_package
from perennial.exporters.aotinductor.package import PackageRecord, processor_of
from perennial.exporters.aotinductor.toolchain import choose_compiler
from perennial.exporters.aotinductor.weights import describe, digest_values, named_weights
from perennial.exporters.bundle import Precision

if TYPE_CHECKING:
    import torch

__all__ = ["build_package", "prepare"]

_DTYPES = {Precision.FP32: "float32", Precision.BF16: "bfloat16", Precision.FP16: "float16"}
# small biases are written into the code otherwise, where no swap reaches
_INDUCTOR: dict[str, Any] = {"always_keep_tensor_constants": True}


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
        DependencyUnreachable: `device` is cuda and there is none, or there is no C++ compiler that fits torch.
        ExportFailed: torch could not export or compile the module.
    """
    import torch
    from torch._inductor import aoti_compile_and_package

    if precision not in _DTYPES:
        raise ConfigurationError(f"AOTInductor has no {precision.value}; choose one of {sorted(_DTYPES)}")
    processor = processor_of(device)
    compiler = choose_compiler()
    settings = {**_INDUCTOR, **({} if compiler is None else {"cpp.cxx": (None, compiler)})}
    started = time.perf_counter()
    package.parent.mkdir(parents=True, exist_ok=True)
    wrapped = prepare(module, precision).to(device)
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
            aoti_compile_and_package(program, package_path=str(package), inductor_configs=settings)
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


def prepare(module: "torch.nn.Module", precision: Precision) -> "torch.nn.Module":
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


def _replaceable(package: Path, module: "torch.nn.Module") -> dict[str, dict[str, str]]:
    """Which weights a later swap reaches, and which it does not."""
    known = set(open_package(package).get_constant_fqns())
    everything = named_weights(module)
    kept = {name: value for name, value in everything.items() if name in known}
    fixed = {name: digest_values(value) for name, value in everything.items() if name not in known}
    return {"weights": describe(kept), "fixed": fixed}


def _first_line(exc: BaseException) -> str:
    return (str(exc).strip().splitlines() or [type(exc).__name__])[0][:300]
