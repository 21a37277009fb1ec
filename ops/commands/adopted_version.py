"""The first version out of a classifier that was fine-tuned elsewhere: no rows, the same proof, the same route."""

import logging
from dataclasses import dataclass
from pathlib import Path

from perennial.continual.errors import ExportFailed, ParityFailed
from perennial.continual.jobs.errors import JobErrors
from perennial.continual.jobs.process import Progress
from perennial.continual.learning.adoption import Adoptable
from perennial.continual.learning.card import is_finished
from perennial.exporters.bundle import Lineage
from perennial.ops.commands.first_version import begin_route, check_unserved, register, training_number
from perennial.ops.ledger import Ledger
from perennial.ops.making.version_maker import EngineOrder, VersionMaker
from perennial.ops.store.workspace import Workspace

__all__ = ["AdoptedVersion", "adopted_version", "read_adoptable"]

logger = logging.getLogger(__name__)
_LEARNER = "finetune"
_REASON = "taken over"


@dataclass(frozen=True, slots=True, kw_only=True)
class AdoptedVersion:
    """What was taken over."""

    version: int
    bundle: Path
    labels: tuple[str, ...]
    max_length: int


def read_adoptable(workspace: Workspace, model: str, folder: Path, *, source: str = "") -> Adoptable:
    """The classifier in `folder`, as the model's settings cut its texts; `source` is where it was fetched from.

    Raises:
        ConfigurationError: it cannot be served; the message says why.
    """
    return Adoptable.read(folder, max_length=workspace.model(model).learning.max_length, source=source)


def adopted_version(
    ledger: Ledger,
    workspace: Workspace,
    model: str,
    folder: Path,
    on_progress: Progress = lambda _: None,
    *,
    source: str = "",
) -> AdoptedVersion:
    """Export, verify and publish the classifier as the first version and make it champion.

    Its engine must answer like the user's own torch model. Started again after it was killed, it goes on with the same
    version number. `source` is where the folder was fetched from, for the lineage, if it is not to stay.

    Raises:
        Refused: the model serves already, or another process makes its first version; LedgerBehind: the routers say so
            and the ledger does not know.
        ConfigurationError: the folder holds no classifier that can be served.
        ExportFailed, ParityFailed: see `VersionMaker`.
    """
    with workspace.claim_beginning(model):
        return _adopted(ledger, workspace, model, folder, source, on_progress)


def _adopted(
    ledger: Ledger, workspace: Workspace, model: str, folder: Path, source: str, on_progress: Progress
) -> AdoptedVersion:
    check_unserved(ledger, workspace, model, instead="give the classifier a name of its own")
    adoptable = read_adoptable(workspace, model, folder, source=source)
    register(ledger, workspace)
    version = training_number(ledger, model, _LEARNER, {"reason": _REASON, "source": adoptable.identity})
    maker = VersionMaker(ledger, workspace, model)
    trained = maker.trained(version)
    if not is_finished(trained):
        adoptable.adopt(trained)
    probes = [{"text": text} for text in adoptable.probe_texts()]
    order = EngineOrder(
        trained=trained,
        engine=workspace.model(model).engine.engine,
        precision=workspace.model(model).engine.precision,
        lineage=Lineage(learner=_LEARNER),
        held_out=probes,
        calibration=probes,
    )
    errors = JobErrors(
        what=f"export of {adoptable.came_from} as {model} version {version}",
        failed=ExportFailed,
        refused=ParityFailed,
        log=maker.folder(version) / "export.log",
    )
    maker.compile(version, order, errors, on_progress)
    manifest = maker.publish(version)
    lineage = {"reason": _REASON, "rows": 0, "replay_rows": 0, "adopted_from": adoptable.came_from}
    begin_route(ledger, workspace, model, version, manifest, adoptable.labels, lineage)
    logger.info("adopted_version.published", extra={"model": model, "version": version, "source": adoptable.came_from})
    return AdoptedVersion(
        version=version,
        bundle=workspace.bundle(model, version),
        labels=adoptable.labels,
        max_length=adoptable.max_length,
    )
