"""The tasks whose models can be bundles: each is a room of its own, found by the name that manifests carry."""

import importlib
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar, cast

from perennial.continual.errors import BundleRejected, ConfigurationError
from perennial.exporters.signature import EngineSignature

__all__ = ["OPENED_BY", "ROOMS", "Room", "read_part", "room_of"]

ROOMS: Mapping[str, str] = {
    "generation": "perennial.exporters.generation",
    "image_classification": "perennial.exporters.image_classification",
    "opinion": "perennial.exporters.text_classification",  # its models are classifiers
    "ranking": "perennial.exporters.ranking",
    "replies": "perennial.exporters.text_classification",
    "text_classification": "perennial.exporters.text_classification",
}


OPENED_BY: Mapping[str, str] = {"generation": "perennial.exporters.generation.steps"}
"""The tasks whose engines are more than one pass through a graph, and the modules that open them."""

T = TypeVar("T")


class Room(Protocol):
    """What the package of a task offers; it is imported in Triton's processes, so that importing it loads no torch."""

    def engine_signature(self, part: Mapping[str, Any]) -> EngineSignature:
        """The engine's signature by the task's own part of a manifest."""
        ...

    def check_bundle(self, folder: Path, part: Mapping[str, Any], files: Collection[str]) -> None:
        """Compare the task's own files with its part of the manifest; every file was found as the manifest says.

        Raises:
            BundleRejected: they do not agree.
        """
        ...

    def engines(self) -> Sequence[tuple[str, str]]:
        """What its models can be compiled to, engine and precision, the usual choice first; empty for everything."""
        ...

    def exportable(self, folder: Path) -> object:
        """The trained model in `folder`; see `perennial.exporters.port.exportable`."""
        ...


def read_part(kind: Callable[..., T], part: Mapping[str, Any]) -> T:
    """The task's own part of a manifest as a record.

    Raises:
        BundleRejected: a field is missing, surplus or of the wrong kind.
    """
    try:
        return kind(**part)
    except TypeError as exc:
        raise BundleRejected(f"the manifest has a wrong or missing field ({exc}); export the version again") from exc


def room_of(task: str) -> Room:
    """The package of a task.

    Raises:
        ConfigurationError: this version has no such task.
    """
    if task not in ROOMS:
        raise ConfigurationError(f"task {task!r} has no bundles here; known are {', '.join(sorted(ROOMS))}")
    return cast("Room", importlib.import_module(ROOMS[task]))
