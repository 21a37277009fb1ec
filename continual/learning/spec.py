"""What a training job is told: one JSON file."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from perennial.continual.atomic_file import written_whole
from perennial.continual.errors import ConfigurationError, DataError
from perennial.continual.learning.encoder import PACKAGED_MINILM
from perennial.continual.learning.names import LearnerName

__all__ = ["JobSpec"]

_PATHS = (
    "examples",
    "out",
    "previous",
    "replay",
    "holdout",
    "erase",
    "others",
    "items",
    "images",
    "unlabelled",
    "cache",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSpec:
    """One training job; relative paths are taken from the folder of the spec's file.

    >>> JobSpec(learner=LearnerName.KERNEL_LDA, examples=Path("rows.jsonl"), out=Path("model")).encoder
    'packaged:minilm'
    """

    learner: LearnerName
    examples: Path | None  # fresh rows, train split only
    out: Path  # folder for the trained model
    encoder: str = PACKAGED_MINILM  # `auto` leaves the choice to the rows
    previous: Path | None = None  # bundle or trained folder that is learnt on
    replay: Path | None = None  # rows of the replay buffer
    holdout: Path | None = None  # rows no model was trained on, fresh and old
    erase: Path | None = None  # rows to be taken back out of the head
    others: Path | None = None  # sums of other sites that the head counts beside those of the rows here
    items: Path | None = None  # catalogue of what can be recommended
    images: Path | None = None  # folder of the pictures that rows name, where an encoder of images reads them
    unlabelled: Path | None = None  # texts, one a line, on which fine-tuning first continues the encoder's pre-training
    cache: Path | None = None  # folder of embeddings that jobs share; default: inside `out`'s parent
    seed: int = 0
    threads: int = 0  # 0: as many as the libraries think best
    nice: int = 10
    max_length: int = 128
    parent_version: int | None = None
    params: dict[str, Any] = field(default_factory=dict)
    privacy: dict[str, Any] | None = None  # see `perennial.continual.privacy.budget.Terms`; None: no noise

    def __post_init__(self) -> None:
        if self.max_length < 3 or self.threads < 0 or not 0 <= self.nice <= 19:
            raise ConfigurationError(
                f"job: max_length {self.max_length} must be at least 3, threads {self.threads} at least 0, "
                f"nice {self.nice} in [0, 19]"
            )

    @property
    def cache_folder(self) -> Path:
        """Where embeddings are kept."""
        return self.cache if self.cache is not None else self.out.parent / "embeddings"

    def write(self, path: Path) -> None:
        """Writes the spec where a training process reads it, whole or not at all; its paths become absolute."""
        record = {
            name: str(value.absolute()) if isinstance(value, Path) else value for name, value in asdict(self).items()
        }
        with written_whole(path) as temporary:
            temporary.write_text(json.dumps(record, indent=1), encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> "JobSpec":
        """The spec in a JSON file.

        Raises:
            DataError: the file is missing or not a JSON object.
            ConfigurationError: a key is unknown, missing or of the wrong kind.
        """
        try:
            read = json.loads(path.read_bytes())
        except FileNotFoundError as error:
            raise DataError(f"job spec {path} does not exist; give the path of a JSON file") from error
        except ValueError as error:
            raise DataError(f"job spec {path} is not JSON ({error}); write one JSON object") from error
        if not isinstance(read, dict):
            raise DataError(f"job spec {path} is {type(read).__name__}; write one JSON object")
        unknown = sorted(read.keys() - cls.__dataclass_fields__.keys())
        missing = sorted({"learner", "examples", "out"} - read.keys())
        if unknown or missing:
            raise ConfigurationError(f"job spec {path}: unknown keys {unknown}, missing keys {missing}; see JobSpec")
        for name in _PATHS:
            if read.get(name) is not None:
                read[name] = path.resolve().parent / str(read[name])
        try:
            read["learner"] = LearnerName(read["learner"])
        except ValueError as error:
            allowed = [learner.value for learner in LearnerName]
            raise ConfigurationError(
                f"job spec {path}: learner {read['learner']!r} must be one of {allowed}"
            ) from error
        if not isinstance(read.get("params", {}), dict):
            raise ConfigurationError(f"job spec {path}: params must be an object of settings")
        try:
            return cls(**read)
        except TypeError as error:
            raise ConfigurationError(f"job spec {path}: {error}; see JobSpec for the kinds") from error
