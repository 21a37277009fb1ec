"""What Triton loads, changed only in ways that never make it reload a version that serves."""

import logging
import os
import re
import shutil
import time
import uuid
from collections.abc import Container, Iterable
from pathlib import Path

from perennial.continual.atomic_file import put_in_place, sync
from perennial.continual.errors import ConfigurationError, NotFound, PublishFailed
from perennial.exporters.triton_config import (
    EngineSpec,
    RouterSpec,
    engine_config,
    router_config,
    versions_of,
    with_versions,
)

__all__ = ["ModelRepository"]

logger = logging.getLogger(__name__)
_CONFIG = "config.pbtxt"
_STAGING = ".staging"


class ModelRepository:
    """A folder of Triton models.

    At model level there is nothing but `config.pbtxt` and version folders: a change of any other entry would make
    Triton reload every version. Work in progress lies in `.staging` beside the models.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._installed: dict[str, str] = {}  # by model: the configuration that this process wrote
        self._engines: set[str] = set()  # those of `_installed` whose versions come and go

    @property
    def root(self) -> Path:
        """The folder given to Triton."""
        return self._root

    @property
    def staging(self) -> Path:
        """Where versions are made ready; on the same file system, so that a rename publishes them."""
        folder = self._root / _STAGING
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def install_router(self, spec: RouterSpec) -> bool:
        """Write the router's configuration and its one, empty version folder; returns whether anything changed."""
        (self._root / spec.model / "1").mkdir(parents=True, exist_ok=True)
        self._installed[spec.model] = router_config(spec)
        return self._configure(spec.model, self._installed[spec.model])

    def install_engine(self, spec: EngineSpec) -> bool:
        """Write the engine model's configuration; the versions named so far stay unless `spec` names some.

        Returns whether anything changed. A change beyond versions and instances reloads every version.
        """
        text = engine_config(spec)
        if not spec.versions:
            text = with_versions(text, self.engine_versions(spec.model))
        self._installed[spec.model] = text
        self._engines.add(spec.model)
        return self._configure(spec.model, text)

    def restore_configurations(self, models: Iterable[str]) -> tuple[str, ...]:
        """Write the installed configuration of those models again whose file says something else but for its versions.

        Only this process's own installations are known; returns the models that had to be mended.
        """
        mended = []
        for model in models:
            if (installed := self._installed.get(model)) is not None:
                text = with_versions(installed, self.engine_versions(model)) if model in self._engines else installed
                mended += [model] if self._configure(model, text) else []
        return tuple(mended)

    def versions(self, model: str) -> tuple[int, ...]:
        """The version folders on disk, ascending."""
        folder = self._root / model
        if not folder.is_dir():
            return ()
        names = (entry.name for entry in folder.iterdir() if entry.is_dir())
        return tuple(sorted(int(name) for name in names if name.isascii() and name.isdigit() and name[0] != "0"))

    def engine_versions(self, model: str) -> tuple[int, ...]:
        """The versions that the model's `config.pbtxt` asks Triton to hold; none where it cannot be read."""
        try:
            return versions_of(self._read(model) or "")
        except ConfigurationError as exc:
            logger.warning("repository.unreadable", extra={"model": model, "reason": str(exc)})
            return ()

    def publish(self, staged: Path, model: str, version: int) -> Path:
        """Move a staged bundle to its place as `version`: all of it is there or none of it, even after a power cut.

        A staged folder on another file system is copied into `.staging` first. Triton does not look at it before
        `set_versions` names it and a load is asked for.

        Raises:
            PublishFailed: the version is there already (versions are immutable), or the disk refuses.
        """
        if version < 1:
            raise PublishFailed(f"{model}: version {version} must be at least 1; Triton reads nothing else")
        target = self._root / model / str(version)
        if target.exists():
            raise PublishFailed(f"{target} exists and versions are immutable; publish under the next number")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            ready = self._on_this_file_system(staged)
            _sync_tree(ready)
            ready.rename(target)
            sync(target.parent)
        except OSError as exc:
            raise PublishFailed(f"{model}: version {version} could not be placed at {target}: {exc}") from exc
        logger.info("repository.published", extra={"model": model, "version": version})
        return target

    def set_versions(self, model: str, versions: Iterable[int]) -> bool:
        """Make `config.pbtxt` name exactly these versions; returns whether it had to change.

        Everything else in the file is kept.

        Raises:
            NotFound: a version has no folder, or the engine model was never installed.
        """
        wanted = tuple(sorted(set(versions)))
        if missing := sorted(set(wanted) - set(self.versions(model))):
            raise NotFound(f"{self._root / model} has no versions {missing}; publish them before they are named")
        text = self._read(model)
        if text is None and (text := self._installed.get(model)) is None:
            raise NotFound(
                f"{self._root / model} has no {_CONFIG}: no server ever ran here; start `perennial serve` and try again"
            )
        return self._configure(model, with_versions(text, wanted))

    def remove_version(self, model: str, version: int) -> None:
        """Delete a version's folder: first out of Triton's sight, then from the disk. Absent is no error.

        Raises:
            PublishFailed: `config.pbtxt` still names it.
        """
        if version in self.engine_versions(model):
            raise PublishFailed(f"{model}: version {version} is named in {_CONFIG}; set other versions and load first")
        folder = self._root / model / str(version)
        if folder.is_dir():
            set_aside = self.staging / f"removed-{model}-{version}-{uuid.uuid4().hex[:8]}"
            folder.rename(set_aside)
            shutil.rmtree(set_aside)

    def clean_staging(self, keep: Container[str] = (), *, older_than_s: float = 0.0) -> tuple[str, ...]:
        """Delete what killed processes left in `.staging`, and return the names.

        Call it while nobody exports, or name in `keep` what is still wanted. What was made within the last
        `older_than_s` may belong to a process that is at work, and stays.
        """
        names = []
        for path in sorted(self.staging.iterdir()):
            if path.name in keep or time.time() - path.lstat().st_mtime < older_than_s:
                continue
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
            names.append(path.name)
        return tuple(names)

    def drop_staged(self, model: str) -> tuple[str, ...]:
        """Delete the bundles of a model that were staged and never published, and return their names."""
        mine = re.compile(rf"{re.escape(model)}-\d+")
        staged = [path for path in sorted(self.staging.iterdir()) if mine.fullmatch(path.name)]
        for path in staged:
            shutil.rmtree(path)
        return tuple(path.name for path in staged)

    def _read(self, model: str) -> str | None:
        try:
            return (self._root / model / _CONFIG).read_text(encoding="utf-8")
        except FileNotFoundError:
            return None

    def _configure(self, model: str, text: str) -> bool:
        if self._read(model) == text:
            return False
        path = self._root / model / _CONFIG
        path.parent.mkdir(parents=True, exist_ok=True)
        staged = self.staging / f"config-{model}-{uuid.uuid4().hex[:8]}"
        staged.write_text(text, encoding="utf-8")
        put_in_place(staged, path)
        return True

    def _on_this_file_system(self, staged: Path) -> Path:
        if staged.stat().st_dev == self._root.stat().st_dev:
            return staged
        copy = self.staging / f"copy-{uuid.uuid4().hex[:8]}"
        shutil.copytree(staged, copy)
        return copy


def _sync_tree(folder: Path) -> None:
    for here, _, files in os.walk(folder, topdown=False):
        for name in files:
            sync(Path(here, name))
        sync(Path(here))
