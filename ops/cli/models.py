"""`model list|show|report|promote|rollback|save|mirror|remove`."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from perennial.ops.cli.actor import actor
from perennial.ops.cli.console import ConfigOption, DryRunOption, JsonOption, ModelOption, print_json, print_table
from perennial.ops.cli.model_report import report
from perennial.ops.cli.session import model_session, session

__all__ = ["register"]

_app = typer.Typer(
    help="Versions: list, show, report, promote, roll back, save, mirror; and models: remove.", no_args_is_help=True
)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    _app.command()(report)
    app.add_typer(_app, name="model")


@_app.command("list")
def list_versions(
    model: ModelOption = "",
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="newest versions")] = 30,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """The newest versions, their state and where they came from."""
    from perennial.ops.views.versions import version_view

    with model_session(config, model, may_be_broken=True) as (parts, model):
        rows = [version_view(row) for row in parts.ledger.versions(model, newest=limit)]
        route = parts.ledger.route(model)
    if as_json:
        print_json(rows)
        return
    champion = None if route is None else route.champion
    print_table(
        f"Versions of {model}",
        ("version", "state", "parent", "classes", "rows", "why", "created"),
        (
            (
                f"{r.version}{' *' if r.version == champion else ''}",
                r.state,
                r.parent,
                r.classes,
                r.lineage.get("rows"),
                r.lineage.get("reason"),
                r.created_at,
            )
            for r in rows
        ),
    )


@_app.command()
def show(version: int, model: ModelOption = "", config: ConfigOption = None) -> None:
    """Everything known about one version."""
    from perennial.ops.views.versions import version_details

    with model_session(config, model, may_be_broken=True) as (parts, model):
        print_json(version_details(parts.ledger.version(model, version)))


_Expect = Annotated[
    int | None, typer.Option(help="the champion that you have seen; nothing is done where another one answers by now")
]
_Reason = Annotated[str, typer.Option(help="why; goes to the audit log")]


@_app.command()
def promote(
    version: int,
    model: ModelOption = "",
    reason: _Reason = "operator",
    expect: _Expect = None,
    dry_run: DryRunOption = False,
    config: ConfigOption = None,
) -> None:
    """Make a version champion; it is loaded and probed first where needed."""
    from perennial.continual.route import ExpectedRoute, pinned, promoted
    from perennial.ops.commands.promotion import promote_version, resident_versions

    seen = ExpectedRoute(champion=expect)
    with model_session(config, model, may_be_broken=True) as (parts, model):
        if dry_run:
            keep = resident_versions(parts.settings, model)
            change = promoted(version, resident=keep)
            _preview(parts, model, version, seen.only(lambda route: change(pinned(version)(route))))
            return
        print_json(promote_version(parts, model, version, actor=actor(), reason=reason, expected=seen))


def _preview(parts: Any, model: str, version: int | None, change: Callable[[Any], Any]) -> None:
    """Print the route now and after a change, or raise what the change itself would raise."""
    from perennial.continual.errors import NotFound

    route, on_disk = parts.ledger.route(model), parts.repository.versions(parts.workspace.engine_model(model))
    if route is None:
        raise NotFound(
            f"model {model} serves no version yet; train the first with `perennial init {model} --data FILE`"
        )
    if version is not None and version not in on_disk:
        raise NotFound(f"{model} has no bundle of version {version}; on disk are {list(on_disk)}")
    then = change(route)
    to_load = sorted(set(then.resident) - set(route.resident))
    print_json({"dry_run": True, "now": route, "then": then, "loads": to_load})


@_app.command()
def rollback(
    to: Annotated[int | None, typer.Option(help="version; default the previous champion")] = None,
    model: ModelOption = "",
    reason: _Reason = "operator",
    expect: _Expect = None,
    dry_run: DryRunOption = False,
    config: ConfigOption = None,
) -> None:
    """Put the previous champion back; it is still loaded, so this takes milliseconds."""
    from perennial.continual.route import ExpectedRoute, pinned, rolled_back
    from perennial.ops.commands.promotion import roll_back_version

    seen = ExpectedRoute(champion=expect)
    with model_session(config, model, may_be_broken=True) as (parts, model):
        if dry_run:
            change = rolled_back(to=to)
            _preview(parts, model, to, seen.only(lambda route: change(route if to is None else pinned(to)(route))))
            return
        print_json(roll_back_version(parts, model, to=to, actor=actor(), reason=reason, expected=seen))


@_app.command()
def save(
    version: int,
    folder: Annotated[Path, typer.Argument(help="a folder that is to be made")],
    model: ModelOption = "",
    dry_run: DryRunOption = False,
    config: ConfigOption = None,
) -> None:
    """Write a version as a folder that transformers loads: configuration, weights, tokenizer, labels, model card."""
    from perennial.ops.commands.hugging_face_folder import save_version

    with model_session(config, model, may_be_broken=True) as (parts, model):
        print_json(save_version(parts, model, version, folder, dry_run=dry_run))


@_app.command()
def mirror(
    uri: Annotated[str, typer.Argument(help="MLflow's store, e.g. sqlite:///mlflow.db or http://localhost:5000")],
    model: ModelOption = "",
    dry_run: DryRunOption = False,
    config: ConfigOption = None,
) -> None:
    """Write versions, their figures and aliases into an MLflow registry; what is there already is not written again."""
    from perennial.ops.commands.mlflow_mirror import mirror_model

    with model_session(config, model, may_be_broken=True) as (parts, model):
        if dry_run:
            versions = sorted(row.version for row in parts.ledger.versions(model))
            print_json({"dry_run": True, "model": model, "uri": uri, "versions": versions})
            return
        print_json(mirror_model(parts, model, uri))


@_app.command()
def remove(
    model: Annotated[str, typer.Argument(help="the model that is to go")],
    although_it_answers: Annotated[
        bool, typer.Option("--although-it-answers", help="also where requests are answered by it, which will fail")
    ] = False,
    dry_run: DryRunOption = False,
    config: ConfigOption = None,
) -> None:
    """Take a model out of perennial.toml; a running `perennial serve` lets go of it. Its rows and versions stay."""
    from perennial.ops.commands.model_removal import remove_model

    with session(config) as parts:
        print_json(remove_model(parts, model, actor=actor(), answers=although_it_answers, dry_run=dry_run))
