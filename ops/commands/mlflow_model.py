"""A classifier out of an MLflow registry, as the folder that transformers reads.

Source: MLflow's transformers flavour (https://mlflow.org/docs/latest/ml/deep-learning/transformers/) keeps the network
in one folder and each other part of the pipeline in a folder of its own.
"""

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from perennial.continual.errors import ConfigurationError, DataError, DependencyUnreachable
from perennial.ops.commands.mlflow_mirror import keep_manners

__all__ = ["is_registered", "registered_classifier", "registered_name"]

_KINDS = ("models:/", "runs:/")
_STORES = ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI")


def is_registered(place: str) -> bool:
    """Whether this names a model in MLflow: `models:/NAME/VERSION`, `models:/NAME@ALIAS` or `runs:/ID/PATH`."""
    return place.startswith(_KINDS)


def registered_name(uri: str) -> str:
    """What a model of that address is called here, where nobody says so: its name in the registry, or its last part."""
    parts = uri.split(":/", 1)[1].split("/")
    return parts[0].split("@")[0] if uri.startswith("models:/") else parts[-1]


@contextmanager
def registered_classifier(uri: str) -> Iterator[Path]:
    """The folder of a classifier that MLflow keeps, fetched for this while. None of its code is run.

    The store is that of `MLFLOW_TRACKING_URI` or `MLFLOW_REGISTRY_URI`, as for MLflow itself.

    Raises:
        ConfigurationError: MLflow is not installed, or no store is named. DependencyUnreachable: the store does not
            answer, or knows no such model. DataError: what it keeps is no classifier of transformers or of ONNX.
    """
    keep_manners()
    try:
        from mlflow import artifacts
        from mlflow.exceptions import MlflowException
    except ImportError as exc:
        raise ConfigurationError("MLflow is not installed; pip install 'perennial-serving[mlflow]'") from exc
    if not any(os.environ.get(name) for name in _STORES):
        raise ConfigurationError(f"no store is named for {uri}; set MLFLOW_TRACKING_URI, e.g. sqlite:///mlflow.db")
    with TemporaryDirectory(prefix="perennial-mlflow-") as work:
        try:
            fetched = Path(artifacts.download_artifacts(artifact_uri=uri, dst_path=work))
        except (MlflowException, OSError) as exc:
            raise DependencyUnreachable(f"MLflow does not give {uri}: {exc}; see to its address and rights") from exc
        yield _arranged(uri, fetched, Path(work) / "classifier")


def _arranged(uri: str, fetched: Path, out: Path) -> Path:
    """The parts of the network and of its tokenizer in one folder."""
    flavors = _flavors(uri, fetched)
    if "transformers" in flavors:
        known = flavors["transformers"]
        parts = [known.get("model_binary", "model"), "components/tokenizer"]
    elif "onnx" in flavors:
        parts = ["."]
    else:
        seen = ", ".join(sorted(flavors)) or "none"
        raise DataError(f"{uri} has the flavours {seen}; a classifier of the flavour transformers or onnx is served")
    out.mkdir()
    for part in parts:
        folder = (fetched / part).resolve()
        if not folder.is_relative_to(fetched.resolve()) or not folder.is_dir():
            raise DataError(f"{uri} has no folder {part!r}; log it anew with mlflow.transformers.log_model")
        for file in folder.iterdir():
            if file.is_file() and not file.is_symlink():
                shutil.copyfile(file, out / file.name)
    return out / "model.onnx" if "transformers" not in flavors else out


def _flavors(uri: str, fetched: Path) -> Mapping[str, Mapping[str, Any]]:
    from mlflow.models import Model

    try:
        flavors: Mapping[str, Mapping[str, Any]] = Model.load(str(fetched)).flavors
    except Exception as exc:  # its own, of the reader of YAML, or whatever a strange document leads to
        raise DataError(f"{uri} is not a model of MLflow: its file MLmodel is missing or broken ({exc})") from exc
    return flavors
