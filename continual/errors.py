"""The error tree, and the exit code that each branch gives the command line.

    PerennialError                     1  something failed
    ├── InputError                     2  what the caller gave is wrong
    │   ├── ConfigurationError         2  a setting is wrong
    │   └── DataError                  2  a file or a row is wrong
    │       └── RowsRefused            2  some rows of many are wrong; it names each of them
    ├── NotFound                       1  a model, version, cycle or prediction that does not exist
    ├── DependencyUnreachable          3  Triton, the ledger or a package cannot be reached
    ├── Refused                        4  a gate said no
    │   ├── Overtaken                  4  what the caller had seen is no longer so
    │   ├── ParityFailed               4  an engine does not answer like the model it was made from
    │   └── BundleRejected             4  a bundle's files do not match its manifest
    ├── TrainingFailed                 1  a training process ended without a model
    ├── ExportFailed                   1  a model could not be turned into an engine
    ├── PublishFailed                  1  a version could not be placed or loaded
    ├── IllegalTransition              1  an event does not fit the cycle's state
    └── LeaseLost                      1  another process leads now; this side effect was not carried out

A message says what happened, the value seen, the value allowed and the next step.
"""

from collections.abc import Mapping, Sequence
from typing import ClassVar

__all__ = [
    "BundleRejected",
    "ConfigurationError",
    "DataError",
    "DependencyUnreachable",
    "ExportFailed",
    "IllegalTransition",
    "InputError",
    "LeaseLost",
    "NotFound",
    "Overtaken",
    "ParityFailed",
    "PerennialError",
    "PublishFailed",
    "Refused",
    "RowsRefused",
    "TrainingFailed",
]


class PerennialError(Exception):
    """Base of every error this product raises on purpose."""

    exit_code: ClassVar[int] = 1


class InputError(PerennialError):
    """What the caller gave is wrong; nothing was changed."""

    exit_code = 2


class ConfigurationError(InputError):
    """A setting is missing, unknown or out of range."""


class DataError(InputError):
    """A data file or one of its rows is wrong."""


class RowsRefused(DataError):
    """Some rows of many are wrong. `rows` names each as {"row": its place, "cause": why}."""

    def __init__(self, message: str, rows: Sequence[Mapping[str, object]]) -> None:
        super().__init__(message)
        self.rows = tuple(rows)


class NotFound(PerennialError):
    """The named model, version, cycle or prediction does not exist."""


class DependencyUnreachable(PerennialError):
    """Triton, the ledger's database or an optional package cannot be reached."""

    exit_code = 3


class Refused(PerennialError):
    """A gate said no; nothing was published or promoted."""

    exit_code = 4


class Overtaken(Refused):
    """What the caller had seen, and asked about, is no longer so; nothing was changed."""


class ParityFailed(Refused):
    """An engine does not answer like the model it was made from."""


class BundleRejected(Refused):
    """A bundle's files do not match its manifest, or may not be loaded here."""


class TrainingFailed(PerennialError):
    """A training process ended without a model."""


class ExportFailed(PerennialError):
    """A trained model could not be turned into an engine."""


class PublishFailed(PerennialError):
    """A version could not be placed in the repository or loaded by Triton."""


class IllegalTransition(PerennialError):
    """An event does not fit the cycle's state; the message tells the cycle's story so far."""


class LeaseLost(PerennialError):
    """Another process leads now; the side effect was not carried out."""
