"""What a TensorRT plan is asked to be, and the record of what it became."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from perennial.continual.errors import BundleRejected, ConfigurationError
from perennial.exporters.bundle import Precision
from perennial.exporters.tensorrt.flavour import Flavour

__all__ = ["LONG_TEXT", "SHORT_TEXT", "BuildOptions", "Machine", "PlanRecord", "Portability", "Profile", "Refit"]

PLAN_FORMAT = "perennial.tensorrt/1"


class Refit(StrEnum):
    """Whether a plan can take new weights later.

    There is no member for identical weights only: such a refit is undefined as soon as a weight has changed.
    """

    NONE = "none"
    WEIGHTS = "weights"
    STRIPPED = "stripped"  # refittable and without its weights: a small mould that serves only after a refit


class Portability(StrEnum):
    """On what other machine a plan may be loaded; each step away from EXACT costs speed."""

    EXACT = "exact"  # this TensorRT version and this kind of GPU
    SAME_CAPABILITY = "same_capability"  # any GPU of the same compute capability
    AMPERE_PLUS = "ampere_plus"  # any GPU from Ampere on
    NEWER_TENSORRT = "newer_tensorrt"  # a later TensorRT too; the plan then carries executable host code


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """The shapes one set of kernels is made for; kernels are tuned at the optimum.

    Both inputs share one shape (batch, sequence); the smallest is (1, 1).
    """

    best_batch: int
    best_sequence: int
    max_batch: int
    max_sequence: int

    def __post_init__(self) -> None:
        if not (1 <= self.best_batch <= self.max_batch and 1 <= self.best_sequence <= self.max_sequence):
            raise ConfigurationError(
                f"profile optimum ({self.best_batch}, {self.best_sequence}) must lie between (1, 1) and "
                f"({self.max_batch}, {self.max_sequence})"
            )


SHORT_TEXT = Profile(best_batch=32, best_sequence=16, max_batch=128, max_sequence=32)
LONG_TEXT = Profile(best_batch=16, best_sequence=128, max_batch=64, max_sequence=512)


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildOptions:
    """How to build one plan. `optimisation_level` 1 to 5: level 0 ignores the timing cache, so it isn't offered.

    `targets` are the compute capabilities that a plan of TensorRT for RTX is built for; empty means the GPU here.
    """

    precision: Precision = Precision.FP16
    profiles: tuple[Profile, ...] = (SHORT_TEXT, LONG_TEXT)
    refit: Refit = Refit.WEIGHTS
    portability: Portability = Portability.EXACT
    workspace_bytes: int = 2 * 2**30
    optimisation_level: int = 3
    targets: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.profiles:
            raise ConfigurationError("a TensorRT plan needs at least one profile; give SHORT_TEXT or LONG_TEXT")
        ceilings = [profile.max_sequence for profile in self.profiles]
        if ceilings != sorted(set(ceilings)):
            raise ConfigurationError(f"profiles must grow in max_sequence, seen {ceilings}; sort them, each once")
        if not 1 <= self.optimisation_level <= 5:
            raise ConfigurationError(f"optimisation_level {self.optimisation_level} must lie in [1, 5]")
        if self.workspace_bytes < 2**20:
            raise ConfigurationError(f"workspace_bytes {self.workspace_bytes} must be at least 1 MiB (1048576)")
        if self.refit is not Refit.NONE and self.precision in {Precision.INT8, Precision.FP8}:
            raise ConfigurationError(
                f"precision {self.precision.value} keeps its scales in the graph, so new weights need a full build; "
                "set refit to none"
            )
        if self.refit is not Refit.NONE and self.portability is Portability.NEWER_TENSORRT:
            raise ConfigurationError(
                "a version-compatible plan runs on the lean runtime, which cannot refit; set refit to none or "
                "portability to exact"
            )

    def to_dict(self) -> dict[str, Any]:
        """The options as JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> "BuildOptions":
        """The options that `raw` describes."""
        return cls(
            precision=Precision(raw["precision"]),
            profiles=tuple(Profile(**profile) for profile in raw["profiles"]),
            refit=Refit(raw["refit"]),
            portability=Portability(raw["portability"]),
            workspace_bytes=int(raw["workspace_bytes"]),
            optimisation_level=int(raw["optimisation_level"]),
            targets=tuple(raw.get("targets", ())),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What a plan and a timing cache are bound to. `capability` is e.g. "9.0", `cuda` e.g. "12.8".

    `tensorrt` is the version of the library, whichever its flavour. Where there is no GPU, all but that is empty.
    """

    gpu: str
    capability: str
    cuda: str
    tensorrt: str
    flavour: Flavour = Flavour.TENSORRT

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> "Machine":
        """The machine that `raw` describes; one without a flavour is older than the second flavour."""
        return cls(**{**raw, "flavour": Flavour(raw.get("flavour", Flavour.TENSORRT))})

    @property
    def has_gpu(self) -> bool:
        """Whether this is a machine with an NVIDIA GPU."""
        return bool(self.capability)

    def runs(self, options: "BuildOptions") -> bool:
        """Whether a plan built here to `options` can be run here."""
        return self.has_gpu and (self.flavour is Flavour.TENSORRT or self.capability in options.targets)

    @property
    def release(self) -> tuple[int, ...]:
        """The TensorRT version as numbers: (10, 16, 1, 11)."""
        return tuple(int(part) for part in self.tensorrt.split(".") if part.isdigit())


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanRecord:
    """What lies beside a plan as `<plan>.json`: enough to refuse it before TensorRT sees it.

    `graph` is the fingerprint of the typed ONNX without its weights; a refit needs the same one. `stripped` plans hold
    no weights. `path` says how the plan came to be: "build" or "refit". `probed` says that it has answered on a GPU;
    one that has not is never loaded to serve.
    """

    machine: Machine
    options: BuildOptions
    graph: str
    stripped: bool
    path: str
    seconds: float
    layers: Mapping[str, int] = field(default_factory=dict)  # layer type to count, from the engine inspector
    probed: bool = True  # what records without the field hold: those plans were run before they were kept

    def to_json(self) -> str:
        """The record as it lies on disk."""
        body = {"format": PLAN_FORMAT, **asdict(self), "layers": dict(self.layers)}
        return json.dumps(body, indent=1, sort_keys=True) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "PlanRecord":
        """The record that `text` describes.

        Raises:
            BundleRejected: `text` is no record of this format.
        """
        try:
            raw = json.loads(text)
            if raw.pop("format") != PLAN_FORMAT:
                raise BundleRejected(f"a plan's record is not of format {PLAN_FORMAT!r}; export the version again")
            raw["machine"] = Machine.from_dict(raw["machine"])
            raw["options"] = BuildOptions.from_dict(raw["options"])
            return cls(**raw)
        except (AttributeError, KeyError, TypeError, ValueError, ConfigurationError) as exc:
            raise BundleRejected(f"a plan's record is damaged ({exc}); export the version again") from exc
