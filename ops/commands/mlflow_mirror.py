"""A model's versions in an MLflow tracking store and registry: runs, versions and aliases as they are here.

Source: MLflow's `MlflowClient` (https://mlflow.org/docs/latest/api_reference/python_api/mlflow.client.html).
"""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from perennial.continual.errors import ConfigurationError, DependencyUnreachable
from perennial.ops.ledger import VersionRow
from perennial.ops.parts import Parts

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

__all__ = ["Mirrored", "keep_manners", "mirror_model"]

_VERSION = "perennial.version"
_STATE = "perennial.state"
_MOST = 500  # characters of a parameter
_MANNERS = {  # of MLflow's client, where the environment says nothing else
    "MLFLOW_DISABLE_TELEMETRY": "true",  # it would report its use to its makers
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",  # it would try for four minutes where nobody listens
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",  # seconds of each try
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",  # its bars would stand among our own lines
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Mirrored:
    """What was written: numbers of versions that are new there, and aliases by MLflow's number of a version."""

    model: str
    uri: str
    added: tuple[int, ...]
    versions: int
    aliases: Mapping[str, str]


def keep_manners() -> None:
    """Have MLflow's client tell nobody else, give up in time, and draw no bars, where the environment is silent."""
    for name, value in _MANNERS.items():
        os.environ.setdefault(name, value)


def mirror_model(parts: Parts, model: str, uri: str) -> Mirrored:
    """Write what is not there yet, and set the aliases `champion`, `challenger` and `previous` anew.

    Each version is a run of the experiment `perennial/MODEL`, with its figures, and a version of the registered model
    MODEL whose source is the bundle. MLflow numbers versions by itself: the tag `perennial.version` has ours. Nothing
    is ever taken out there, and a repetition adds nothing. After one that was killed it goes on with the same run.

    Raises:
        ConfigurationError: MLflow is not installed. DependencyUnreachable: the store does not answer, or refuses.
    """
    keep_manners()
    try:
        from mlflow import MlflowClient
        from mlflow.exceptions import MlflowException
    except ModuleNotFoundError as exc:
        raise ConfigurationError("MLflow is not installed; pip install 'perennial-serving[mlflow]'") from exc
    try:
        return _mirrored(parts, model, uri, MlflowClient(tracking_uri=uri, registry_uri=uri))
    except (MlflowException, OSError) as exc:
        raise DependencyUnreachable(f"MLflow at {uri} does not take it: {exc}; see to its address and rights") from exc


def _mirrored(parts: Parts, model: str, uri: str, client: "MlflowClient") -> Mirrored:
    there, added = _there(client, model), []
    experiment = _experiment(client, f"perennial/{model}")
    for row in parts.ledger.versions(model):
        number = there.get(row.version)
        if number is None:
            there[row.version] = _add(parts, client, experiment, row)
            added.append(row.version)
        else:
            client.set_model_version_tag(model, number, _STATE, row.state.value)
    route = parts.ledger.route(model)
    wanted = {} if route is None else {
        "champion": route.champion, "challenger": route.challenger, "previous": route.previous
    }  # fmt: skip
    aliases = {name: there[version] for name, version in wanted.items() if version in there}
    held = client.get_registered_model(model).aliases if there else {}
    for name in wanted:
        if name in aliases:
            client.set_registered_model_alias(model, name, aliases[name])
        elif name in held:
            client.delete_registered_model_alias(model, name)
    return Mirrored(model=model, uri=uri, added=tuple(added), versions=len(there), aliases=aliases)


def _there(client: "MlflowClient", model: str) -> dict[int, str]:
    """MLflow's numbers of the versions that are there, by ours."""
    if not client.search_registered_models(f"name = '{model}'"):
        client.create_registered_model(model, description="Mirrored by Perennial; a change here changes nothing there.")
    found: dict[int, str] = {}
    token = None
    while True:
        page = client.search_model_versions(f"name = '{model}'", max_results=1_000, page_token=token)
        found |= {int(each.tags[_VERSION]): str(each.version) for each in page if _VERSION in each.tags}
        token = page.token
        if not token:
            return found


def _experiment(client: "MlflowClient", name: str) -> str:
    known = client.get_experiment_by_name(name)
    return str(client.create_experiment(name) if known is None else known.experiment_id)


def _add(parts: Parts, client: "MlflowClient", experiment: str, row: VersionRow) -> str:
    began = None if row.created_at is None else int(row.created_at.timestamp() * 1_000)
    run = _run(client, experiment, row, began)
    given, told = run.data.params, run.data.metrics
    for name, value in _params(row).items():
        if name not in given:  # it takes no other value later
            client.log_param(run.info.run_id, name, value)
    for name, figure in _figures("", row.metrics):
        if told.get(name) != figure:
            client.log_metric(run.info.run_id, name, figure, timestamp=began)
    ended = None if row.published_at is None else int(row.published_at.timestamp() * 1_000)
    client.set_terminated(run.info.run_id, end_time=ended)
    source = parts.workspace.bundle(row.model, row.version).resolve().as_uri()
    tags = {_VERSION: str(row.version), _STATE: row.state.value}
    made = client.create_model_version(row.model, source, run_id=run.info.run_id, tags=tags)
    return str(made.version)


def _run(client: "MlflowClient", experiment: str, row: VersionRow, began: int | None) -> "Run":
    """The version's run: the one that a killed mirroring left, or a new one."""
    known = client.search_runs([experiment], f"tags.`{_VERSION}` = '{row.version}'", max_results=1)
    if known:
        return known[0]
    tags = {"mlflow.runName": f"{row.model} {row.version}", _VERSION: str(row.version), "perennial.model": row.model}
    return client.create_run(experiment, start_time=began, tags=tags)


def _params(row: VersionRow) -> dict[str, str]:
    facts = {"learner": row.learner, "parent": row.parent, "cycle": row.cycle_id, "classes": len(row.labels)}
    facts |= {name: row.lineage.get(name) for name in ("reason", "actor", "rows", "replay_rows")}
    facts |= {"bundle_sha256": row.bundle_sha256}
    return {name: str(value)[:_MOST] for name, value in facts.items() if value is not None}


def _figures(below: str, metrics: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """The numbers among the figures, by their path."""
    for name, value in metrics.items():
        path = f"{below}{name}"
        if isinstance(value, Mapping):
            yield from _figures(f"{path}.", value)
        elif isinstance(value, int | float):  # true and false are 1 and 0
            yield path, float(value)
