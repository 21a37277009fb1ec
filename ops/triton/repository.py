"""The folder that Triton loads: versions arrive by rename, `config.pbtxt` by replacement, nothing else ever changes.

Triton counts any other changed entry of a model's folder as a change of all its versions, and takes `4.partial` for
version 4; so staging lies in `.staging`, outside every model.
"""

import logging
import os
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from continual.errors import PublishFailed
from exporters.triton_config import EngineSpec, RouterSpec, engine_config, router_config

__all__ = ["ModelRepository"]

logger = logging.getLogger(__name__)
_CONFIG = "config.pbtxt"


class ModelRepository:
    """Reads and changes a model repository. Every change is complete or absent after a crash."""

    def __init__(self, root: Path, *, engines: dict[str, EngineSpec] | None = None) -> None:
        self.root = root
        self._engines = engines or {}

    @property
    def staging(self) -> Path:
        """Where bundles are made."""
        return self.root / ".staging"

    def install_router(self, spec: RouterSpec) -> bool:
        """Make the router model's folder, and tell whether it had to change."""
        folder = self.root / spec.name
        (folder / "1").mkdir(parents=True, exist_ok=True)
        return _replace(folder / _CONFIG, router_config(spec))

    def versions(self, engine_model: str) -> tuple[int, ...]:
        """The versions on disk, ascending."""
        folder = self.root / engine_model
        if not folder.is_dir():
            return ()
        return tuple(sorted(int(entry.name) for entry in folder.iterdir() if entry.is_dir() and entry.name.isdigit()))

    def set_versions(self, engine_model: str, versions: Sequence[int]) -> bool:
        """Name the versions that Triton shall hold, and tell whether `config.pbtxt` had to change."""
        spec = self._engines.get(engine_model) or EngineSpec(name=engine_model, versions=versions)
        spec = replace(spec, name=engine_model, versions=tuple(versions))
        return _replace(self.root / engine_model / _CONFIG, engine_config(spec))

    def publish(self, staged: Path, engine_model: str, version: int) -> Path:
        """Move a complete, verified bundle to its place.

        Raises:
            PublishFailed: the version exists, or the staging folder lies on another file system.
        """
        target = self.root / engine_model / str(version)
        if target.exists():
            raise PublishFailed(f"{target} exists; versions are never overwritten, export under the next number")
        target.parent.mkdir(parents=True, exist_ok=True)
        for file in staged.iterdir():
            _sync(file)
        _sync(staged)
        try:
            staged.rename(target)
        except OSError as exc:
            raise PublishFailed(
                f"{staged} could not be moved to {target}: {exc}; staging and repository must share a file system"
            ) from exc
        _sync(target.parent)
        logger.info("version.published", extra={"path": str(target)})
        return target

    def remove_version(self, engine_model: str, version: int) -> None:
        """Delete a version's folder; first out of the model, so that a crash leaves no half of it there."""
        target = self.root / engine_model / str(version)
        if target.is_dir():
            self.staging.mkdir(parents=True, exist_ok=True)
            gone = self.staging / f"removed-{engine_model}-{version}"
            shutil.rmtree(gone, ignore_errors=True)
            target.rename(gone)
            shutil.rmtree(gone)

    def clear_staging(self, *, keep: Sequence[str] = ()) -> list[str]:
        """Delete leftovers of killed exports and return their names."""
        if not self.staging.is_dir():
            return []
        leftovers = [entry for entry in self.staging.iterdir() if entry.name not in keep]
        for entry in leftovers:
            shutil.rmtree(entry, ignore_errors=True) if entry.is_dir() else entry.unlink(missing_ok=True)
        return sorted(entry.name for entry in leftovers)


def _replace(path: Path, content: str) -> bool:
    if path.is_file() and path.read_text(encoding="utf-8") == content:
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    # the temporary file lies beside the models, not inside one
    temporary = path.parent.parent / f".{path.parent.name}.{path.name}.{os.getpid()}"
    temporary.write_text(content, encoding="utf-8")
    _sync(temporary)
    temporary.replace(path)
    return True


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
