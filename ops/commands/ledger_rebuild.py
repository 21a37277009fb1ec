"""A lost ledger made anew, as far as the disk tells: versions from their bundles, routes from the routers' files."""

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from perennial.continual.errors import BundleRejected, InputError
from perennial.continual.records import Route
from perennial.exporters.bundle import Manifest, verify_bundle
from perennial.ops.commands.first_version import register
from perennial.ops.ledger import Ledger, VersionRow, VersionState, version_card
from perennial.ops.serving.repository import ModelRepository
from perennial.ops.store.route_changes import restore_route_file
from perennial.ops.store.workspace import Workspace

__all__ = ["Rebuilt", "rebuild_ledger"]

_LOST = ("labels and feedback", "replay rows", "drift verdicts", "cycles", "the audit log from before", "erasures")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rebuilt:
    """What one model's part of the ledger was, or would be, made of."""

    model: str
    versions: tuple[int, ...]  # that the ledger did not know
    damaged: dict[int, str]  # bundles that cannot be trusted, and why; they are left alone
    route: Route | None  # None where the ledger's stays
    not_rebuilt: tuple[str, ...]  # what no bundle holds


def rebuild_ledger(
    ledger: Ledger, workspace: Workspace, repository: ModelRepository, *, actor: str, dry_run: bool
) -> tuple[Rebuilt, ...]:
    """Tell the ledger of the bundles on disk that it does not know, and of routes that are ahead of its own.

    A ledger that lacks nothing is left as it is. Running it again changes nothing.
    """
    if not dry_run:
        register(ledger, workspace)
    rebuilt = []
    for model in workspace.settings.models:
        one_rebuilt = _found(ledger, workspace, repository, model)
        if not dry_run:
            _write(ledger, workspace, one_rebuilt, actor)
        rebuilt.append(one_rebuilt)
    return tuple(rebuilt)


def _found(ledger: Ledger, workspace: Workspace, repository: ModelRepository, model: str) -> Rebuilt:
    known = {row.version for row in ledger.versions(model)}
    sound, damaged = dict[int, Manifest](), dict[int, str]()
    for version in repository.versions(workspace.engine_model(model)):
        try:
            sound[version] = verify_bundle(workspace.bundle(model, version))
        except (BundleRejected, InputError, OSError) as exc:
            damaged[version] = str(exc)
    versions = tuple(sorted(set(sound) - known))
    route = _route(ledger.route(model), workspace.read_route(model), model, set(sound))
    lost = _LOST if versions or route is not None else ()
    return Rebuilt(model=model, versions=versions, damaged=damaged, route=route, not_rebuilt=lost)


def _route(recorded: Route | None, followed: Route | None, model: str, sound: set[int]) -> Route | None:
    """Return the routers' route, one epoch further, or without their file the newest sound version's."""
    if followed is not None:
        if recorded is not None and recorded.epoch >= followed.epoch:
            return None
        if followed.champion in sound:
            resident = tuple(v for v in followed.resident if v in sound)
            previous = followed.previous if followed.previous in resident else None
            return Route(  # without a challenger: its cycle is lost
                model=model, epoch=followed.epoch + 1, champion=followed.champion, previous=previous, resident=resident
            )
    if recorded is not None or not sound:
        return None
    epoch = 1 if followed is None else followed.epoch + 1
    return Route(model=model, epoch=epoch, champion=max(sound), resident=(max(sound),))


def _write(ledger: Ledger, workspace: Workspace, rebuilt: Rebuilt, actor: str) -> None:
    with ledger.transaction():
        for version in rebuilt.versions:
            ledger.add_version(_row(workspace, rebuilt.model, version))
        if rebuilt.route is not None:
            ledger.restore_route(rebuilt.route, actor=actor, reason="rebuilt from what is on the disk")
        if rebuilt.versions or rebuilt.route is not None:
            detail = {"versions": list(rebuilt.versions), "damaged": sorted(rebuilt.damaged)}
            ledger.audit(actor, "ledger.rebuilt", rebuilt.model, detail)
    if rebuilt.route is not None:
        restore_route_file(ledger, workspace, rebuilt.model)


def _labels(bundle: Path) -> tuple[str, ...]:
    """The classes of a bundle; none where its task has no classes."""
    path = bundle / "labels.json"
    return tuple(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else ()


def _row(workspace: Workspace, model: str, version: int) -> VersionRow:
    bundle = workspace.bundle(model, version)
    manifest = verify_bundle(bundle)
    labels = _labels(bundle)
    created_at = datetime.fromtimestamp((bundle / "manifest.json").stat().st_mtime, UTC)
    return VersionRow(
        model=model,
        version=version,
        state=VersionState.PUBLISHED,
        parent=manifest.lineage.parent_version,
        learner=manifest.lineage.learner,
        card=version_card(labels=labels, encoder_fingerprint=manifest.encoder_fingerprint),
        metrics={"parity": dict(manifest.parity), "engine": f"{manifest.engine.value} {manifest.precision.value}"},
        lineage={"reason": "rebuilt from its bundle", "rows": manifest.lineage.rows, "last_example_id": 0},
        created_at=created_at,
        published_at=created_at,
    )
