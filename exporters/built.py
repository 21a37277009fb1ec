"""What every engine builder gives back, and what each engine can be built as."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

from perennial.exporters.bundle import EngineKind, Manifest, Precision

__all__ = ["PRECISIONS", "BuiltEngine"]

PRECISIONS: Mapping[EngineKind, frozenset[Precision]] = {
    EngineKind.ONNXRUNTIME: frozenset({Precision.FP32, Precision.INT8}),
    EngineKind.OPENVINO: frozenset({Precision.FP32, Precision.BF16, Precision.INT8}),
    EngineKind.TENSORRT: frozenset(Precision),
    EngineKind.AOTINDUCTOR: frozenset({Precision.FP32, Precision.BF16, Precision.FP16}),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class BuiltEngine:
    """An engine file in a folder, and the runtime settings it must be opened with."""

    engine: EngineKind
    precision: Precision
    file: str
    seconds: float
    options: Mapping[str, str] = field(default_factory=dict)
    toolchain: tuple[str, ...] = ()  # packages whose versions belong into the manifest

    @classmethod
    def again(cls, manifest: Manifest, *, seconds: float) -> Self:
        """The engine of an earlier bundle, which has other weights now."""
        return cls(
            engine=manifest.engine,
            precision=manifest.precision,
            file=manifest.engine_file,
            seconds=seconds,
            options=manifest.options,
            toolchain=tuple(manifest.toolchain),
        )
