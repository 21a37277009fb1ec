"""A version as a folder for transformers, out of its bundle."""

from pathlib import Path
from typing import Any

from perennial.continual.errors import NotFound
from perennial.exporters.bundle import verify_bundle
from perennial.exporters.hugging_face import write_folder
from perennial.ops.parts import Parts

__all__ = ["save_version"]


def save_version(parts: Parts, model: str, version: int, folder: Path, *, dry_run: bool = False) -> dict[str, Any]:
    """Write the version into `folder`, which appears whole, and say what was written; nothing with `dry_run`.

    Raises:
        NotFound: there is no such version, or its bundle is gone. BundleRejected: the bundle is not as it was written.
        ConfigurationError, DataError, ExportFailed: see `write_folder`.
    """
    parts.ledger.version(model, version)
    bundle = parts.workspace.bundle(model, version)
    if not bundle.is_dir():
        on_disk = list(parts.repository.versions(parts.workspace.engine_model(model)))
        raise NotFound(f"{model} has no bundle of version {version} any more; on disk are {on_disk}")
    if dry_run:
        return {"dry_run": True, "model": model, "version": version, "folder": str(folder.absolute())}
    verify_bundle(bundle)
    written = write_folder(bundle, folder, name=f"{model} {version}")
    return {
        "model": model,
        "version": version,
        "folder": str(written.folder.absolute()),
        "layout": written.layout.value,
        "files": list(written.files),
    }
