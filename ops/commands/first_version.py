"""The first version: labelled rows in, a verified bundle and a route out. Needs no server."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from perennial.continual.errors import Refused
from perennial.continual.identity import split_by
from perennial.continual.jobs.process import Progress
from perennial.continual.learning.card import read_card
from perennial.continual.learning.encoder_choice import EncoderChoice
from perennial.continual.learning.learners import learner_named
from perennial.continual.records import Route
from perennial.continual.task import AnyRow
from perennial.continual.tasks import task_named
from perennial.exporters.bundle import MANIFEST, Manifest
from perennial.ops.ledger import Ledger, VersionRow, VersionState, version_card
from perennial.ops.making.begun_ahead import LOADS_S, export_loading
from perennial.ops.making.encoder_for import encoder_for, texts_of
from perennial.ops.making.version_maker import VersionMaker, engine_metrics
from perennial.ops.serving.repository import ModelRepository
from perennial.ops.store.ledger_guard import check_not_behind
from perennial.ops.store.route_changes import restore_route_file
from perennial.ops.store.workspace import Workspace

__all__ = [
    "FirstVersion",
    "begin_route",
    "check_unserved",
    "first_version",
    "first_version_under_claim",
    "register",
    "training_number",
]

logger = logging.getLogger(__name__)
_LABEL_INSTEAD = "add labels with `perennial feedback import` and start a cycle with `perennial retrain`"
_FIRST: Mapping[str, Any] = {"reason": "first version"}


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstVersion:
    """What the first training made."""

    version: int
    bundle: Path
    labels: tuple[str, ...]
    rows: int
    replay_rows: int
    encoder: EncoderChoice | None  # None where the learner reads no texts


def register(ledger: Ledger, workspace: Workspace) -> None:
    """Make every model of the settings known to the ledger, which gives no number that a bundle on disk has."""
    repository = ModelRepository(workspace.repository)
    for name, settings in workspace.settings.models.items():
        ledger.register_model(name, settings.model_dump(mode="json"))
        ledger.pass_versions(name, max(repository.versions(workspace.engine_model(name)), default=0))


def first_version(
    ledger: Ledger,
    workspace: Workspace,
    model: str,
    examples: Sequence[AnyRow],
    on_progress: Progress = lambda _: None,
) -> FirstVersion:
    """Train, export, verify and publish the first version and make it champion.

    Started again after it was killed, it goes on with the same version number.

    Raises:
        Refused: the model serves already, or another process makes its first version; LedgerBehind: the routers say so
            and the ledger does not know.
        DataError: there are too few rows, by the rule of the learner.
        ConfigurationError: the settings name an encoder that cannot read the rows.
        TrainingFailed, ExportFailed, ParityFailed: see `VersionMaker`.
    """
    with workspace.claim_beginning(model):
        return first_version_under_claim(ledger, workspace, model, examples, on_progress)


def first_version_under_claim(
    ledger: Ledger, workspace: Workspace, model: str, examples: Sequence[AnyRow], on_progress: Progress
) -> FirstVersion:
    """`first_version`, for whoever holds the claim."""
    check_unserved(ledger, workspace, model)
    register(ledger, workspace)
    learning, task = workspace.model(model).learning.of_first_version(), task_named(workspace.model(model).task)
    learner = learner_named(learning.learner)
    rows = learner.first_rows(examples)
    on_progress({"stage": "see what the rows are written in"})
    encoder = encoder_for(learning, texts_of(task, rows), task.name) if learner.embeds else None
    on_progress({"stage": "keep the rows"})
    share = learning.holdout_share
    ledger.add_examples(model, rows, lambda asked: split_by(task.identity(asked), holdout_share=share))
    version = training_number(ledger, model, learning.learner)
    with export_loading(workspace, learning) as warm:
        maker = VersionMaker(ledger, workspace, model, warm=warm)
        on_progress({"stage": "start the training"})
        name = None if encoder is None else encoder.encoder
        maker.train(version, None, maker.rows.training_rows(None), on_progress, encoder=name)
        training = maker.rows.taught_rows(version, None)
        if warm is not None and not (maker.bundle(version) / MANIFEST).is_file():
            warm.wait_loaded(LOADS_S)
        maker.export(version, None, training, None, on_progress)
    manifest = maker.publish(version)
    target = workspace.bundle(model, version)
    labels = read_card(target).labels
    ledger.mark_learnt(model, training.learnt, version)
    replay_rows = maker.rows.remember(training)
    lineage = {"reason": "first version", **training.counted, "replay_rows": 0}
    begin_route(ledger, workspace, model, version, manifest, labels, lineage)
    logger.info("first_version.published", extra={"model": model, "version": version, "rows": len(training.fresh)})
    return FirstVersion(
        version=version,
        bundle=target,
        labels=labels,
        rows=len(training.fresh),
        replay_rows=replay_rows,
        encoder=encoder,
    )


def begin_route(
    ledger: Ledger,
    workspace: Workspace,
    model: str,
    version: int,
    manifest: Manifest,
    labels: tuple[str, ...],
    lineage: dict[str, Any],
) -> None:
    """Make the published version champion and lead all requests to it."""
    first = Route(model=model, epoch=1, champion=version, resident=(version,))
    with ledger.transaction():  # a champion without a route would be taken for no version at all
        ledger.set_version_state(
            model,
            version,
            VersionState.CHAMPION,
            card=version_card(labels=labels, encoder_fingerprint=manifest.encoder_fingerprint),
            published_at=datetime.now(UTC),
            metrics=engine_metrics(manifest),
            lineage=lineage,
        )
        ledger.set_route(first, expected_epoch=0, actor="operator", reason=lineage["reason"])
    restore_route_file(ledger, workspace, model)


def check_unserved(ledger: Ledger, workspace: Workspace, model: str, *, instead: str = _LABEL_INSTEAD) -> None:
    """Return where the model may be given a first version; a refusal says what to do `instead`.

    Raises:
        Refused: it serves already; LedgerBehind: the routers say so and the ledger does not know.
    """
    route = ledger.route(model)
    check_not_behind(route, workspace, model)
    if route is not None:
        raise Refused(f"model {model} serves version {route.champion} already; {instead}")


def training_number(ledger: Ledger, model: str, learner: str, lineage: Mapping[str, Any] = _FIRST) -> int:
    """The number of the version that a killed try of the same began, or a new one; tries of another end here."""
    for row in ledger.versions(model):
        if row.state is VersionState.TRAINING:
            if row.lineage == lineage:
                return row.version
            ledger.set_version_state(model, row.version, VersionState.FAILED)
    version = ledger.next_version(model)
    ledger.add_version(VersionRow(model=model, version=version, learner=learner, lineage=dict(lineage)))
    return version
