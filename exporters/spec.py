"""What an export is asked to do, and what it says it did."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from perennial.continual.atomic_file import written_whole
from perennial.continual.errors import ConfigurationError
from perennial.continual.tasks import DEFAULT_TASK
from perennial.exporters.bundle import EngineKind, Lineage, Precision, ReadFile
from perennial.exporters.parity import ParityVerdict

__all__ = ["ExportPath", "ExportResult", "ExportSpec"]


class ExportPath(StrEnum):
    """How the engine came about."""

    FULL = "full"
    WEIGHT_SWAP = "weight_swap"


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportSpec:
    """One export. `held_out` and `calibration` are parquet or JSON files with `texts` and (held out only) `labels`.

    `previous_bundle` invites a weight swap, with the full build as the fallback. `limits` overrides single
    parity limits. At most `parity_rows` held-out texts are compared, spread evenly over the file. `engine_threads` are
    those of the engine while it is proved, where they are others than the `threads` of everything else.
    """

    trained_dir: Path
    out_dir: Path
    held_out: Path
    model: str
    version: int
    engine: str = "auto"
    precision: str = "auto"
    previous_bundle: Path | None = None
    calibration: Path | None = None
    lineage: Lineage = field(default_factory=Lineage)
    threads: int = 0
    engine_threads: int = 0
    limits: Mapping[str, float] = field(default_factory=dict)
    limits_by_precision: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    parity_rows: int = 512
    task: str = DEFAULT_TASK
    beside: Path | None = None  # a bundle whose engine the new one is timed beside, on the held-out rows
    embeddings: Path | None = None  # where embeddings are kept from one export to the next
    memory: Path | None = None  # what rows only name, where the task has such

    def write(self, path: Path, *, result: Path) -> None:
        """Write the spec where an export process reads it, which is to write its `result`; whole or not at all."""
        record = {
            name: str(value.absolute()) if isinstance(value, Path) else value for name, value in asdict(self).items()
        }
        with written_whole(path) as temporary:
            temporary.write_text(json.dumps(record | {"result": str(result.absolute())}, indent=1), encoding="utf-8")

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> "ExportSpec":
        """The spec out of its JSON form.

        Raises:
            ConfigurationError: a field is missing, unknown or of the wrong kind.
        """
        paths = (
            "trained_dir",
            "out_dir",
            "held_out",
            "previous_bundle",
            "calibration",
            "beside",
            "embeddings",
            "memory",
        )
        values: dict[str, Any] = {name: value for name, value in record.items() if name != "result"}
        values |= {name: Path(value) for name, value in values.items() if name in paths and value}
        try:
            values["lineage"] = Lineage(**values.get("lineage", {}))
            return cls(**values)
        except TypeError as exc:
            raise ConfigurationError(f"the export spec does not fit: {exc}; known are {list(cls.__slots__)}") from exc


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportResult:
    """What an export did: the path it took, why a swap was not taken, seconds by stage, and the verdict."""

    bundle: Path
    path: ExportPath
    fallback_reason: str | None
    engine: EngineKind
    precision: Precision
    seconds: Mapping[str, float]
    verdict: ParityVerdict
    manifest_sha256: str
    read: tuple[ReadFile, ...] = ()  # of its files

    def to_record(self) -> dict[str, Any]:
        """JSON values only."""
        record = {name: getattr(self, name) for name in self.__slots__}
        record |= {"bundle": str(self.bundle), "verdict": self.verdict.to_record(), "seconds": dict(self.seconds)}
        return record | {"read": [asdict(each) for each in self.read]}
