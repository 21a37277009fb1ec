"""`init --model FOLDER`: a classifier that was fine-tuned elsewhere is served as the first version."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from perennial.ops.cli.console import print_json
from perennial.ops.cli.session import session

__all__ = ["is_classifier", "take_over"]


def is_classifier(place: str) -> bool:
    """Whether `--model` names a place on disk, and not a model as it does in other commands."""
    return "/" in place or place.endswith(".onnx") or (Path(place) / "config.json").is_file()


def take_over(
    path: Path,
    name: str,
    place: str,
    *,
    data: Path | None,
    dry_run: bool,
    name_model: Callable[[Path, str], None],
) -> None:
    """Name the model in the settings and make its first version of the classifier; `dry_run` only reads and tells.

    `place` is a folder, an ONNX file, or the address of a model in MLflow.
    """
    from perennial.continual.errors import ConfigurationError
    from perennial.ops.commands.mlflow_model import is_registered, registered_classifier, registered_name

    if data is not None:
        raise ConfigurationError(
            f"--data {data} beside --model {place}: a classifier is served as it is, without rows. "
            "Give one of them; labelled rows are taken by `perennial feedback import` afterwards"
        )
    if is_registered(place):
        with registered_classifier(place) as folder:
            _take_over(path, name or registered_name(place), folder, place, dry_run=dry_run, name_model=name_model)
    else:
        _take_over(path, name, Path(place), place, dry_run=dry_run, name_model=name_model)


def _take_over(
    path: Path, name: str, folder: Path, place: str, *, dry_run: bool, name_model: Callable[[Path, str], None]
) -> None:
    from perennial.continual.learning.adoption import Adoptable
    from perennial.continual.preparation import admit_name
    from perennial.ops.app.wiring import configured_models
    from perennial.ops.cli.progress import stages
    from perennial.ops.commands.adopted_version import adopted_version
    from perennial.ops.store.settings_file import name_from

    chosen = admit_name(name or name_from(folder if folder.suffix == ".onnx" else folder.expanduser().resolve()))
    adoptable = Adoptable.read(folder, max_length=_longest(path, chosen))
    plan: dict[str, Any] = {"model": chosen, "labels": list(adoptable.labels), "max_length": adoptable.max_length}
    if dry_run:
        adds = not path.is_file() or chosen not in configured_models(path)
        print_json({"dry_run": True, "writes": str(path) if adds else None, **plan, "then": "publish version 1"})
        return
    name_model(path, chosen)
    with session(path) as parts, stages(f"{place} as first version of {chosen}") as on_progress:
        source = "" if Path(place) == folder else place
        first = adopted_version(parts.ledger, parts.workspace, chosen, folder, on_progress, source=source)
    print_json({**plan, "version": first.version, "bundle": str(first.bundle)})


def _longest(path: Path, model: str) -> int:
    """Tokens kept of a text, by the model's settings, or by default where they do not name it yet."""
    from perennial.ops.settings import ModelSettings, load_settings

    models = load_settings(path).models if path.is_file() else {}
    return models.get(model, ModelSettings()).learning.max_length
