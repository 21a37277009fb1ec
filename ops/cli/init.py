"""`init`: a model named, its first version made of rows, and the truth about both in the same minute."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from perennial.ops.cli.console import ConfigOption, DryRunOption, print_json, say
from perennial.ops.cli.file_options import (
    KINDS,
    ColumnOption,
    DelimiterOption,
    EncodingOption,
    SheetOption,
    file_reading,
)
from perennial.ops.cli.taking_over import is_classifier, take_over

if TYPE_CHECKING:
    from perennial.ops.cli.beginning import Beginning

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(context_settings={"allow_extra_args": True})(init)


def init(
    context: typer.Context,
    name: Annotated[
        str, typer.Argument(help="the model; default the only one of perennial.toml, or the name of the data's file")
    ] = "",
    data: Annotated[
        Path | None,
        typer.Option(
            help="labelled rows, with text and label; of a ranking events, with user, item and at; of images a folder "
            f"for each label in one folder, or a table with image and label; {KINDS}"
        ),
    ] = None,
    model: Annotated[
        str,
        typer.Option(
            "--model",
            "-m",
            help="a fine-tuned classifier to serve as version 1, a folder or MLflow's models:/NAME/VERSION; or as NAME",
        ),
    ] = "",
    recipe: Annotated[
        str, typer.Option(help="named settings and files: recommendation; --data is then a folder", metavar="NAME")
    ] = "",
    task: Annotated[
        str,
        typer.Option(
            help="what the model does: text_classification; image_classification, the default of a folder of data; or "
            "ranking, which puts items in order"
        ),
    ] = "",
    items: Annotated[
        Path | None, typer.Option(help="of a ranking: the catalogue, with item, text and tags; same kinds of files")
    ] = None,
    column: ColumnOption = None,
    encoding: EncodingOption = None,
    delimiter: DelimiterOption = None,
    sheet: SheetOption = None,
    dry_run: DryRunOption = False,
    config: ConfigOption = None,
) -> None:
    """Name a model in perennial.toml, which is written where there is none; with --data, train its first version.

    It says what is wrong with the rows, how good the version is on rows that it has not learnt, and whether a simple
    baseline does better. With --task ranking the rows are what users did with items. With --recipe all of it comes from
    one folder, and a workspace may hold the models of several recipes. With --model FOLDER
    the first version is a classifier that transformers saved, or an ONNX file: its own head, labels and tokenizer;
    MLflow may keep it. A `perennial serve` that runs there takes the new model up by itself.
    """
    from perennial.continual.preparation import admit_name
    from perennial.ops.cli.beginning import Files, beginning_of

    _check_named(name, context.args)
    path = config or Path("perennial.toml")
    if recipe:
        _by_recipe(path, recipe, name or model, data, dry_run=dry_run, others=bool(task or items or column))
        return
    if is_classifier(model):
        take_over(path, name, model, data=data, dry_run=dry_run, name_model=_name)
        return
    if name and model and name != model:
        raise typer.BadParameter(f"{name!r} and --model {model!r} are two names; give one", param_hint="NAME")
    chosen = admit_name(name or model or _only_or_from(path, data))
    reading = file_reading(column, encoding, delimiter, sheet)
    of_task = _task_of(path, chosen, task, data)
    beginning = None if data is None else beginning_of(of_task)
    rows = None
    if beginning is not None and data is not None:
        whose = _attributes(path, chosen)
        rows = beginning.read(Files(data=data, items=items, reading=reading, attributes=whose))
    if dry_run:
        print_json(_planned(path, chosen, of_task, rows, beginning))
        return
    _name(path, chosen, of_task)
    if beginning is None:
        say(f"next: perennial init {chosen} --data FILE")
        return
    print_json(beginning.make(path, chosen, rows))


def _check_named(name: str, rest: Sequence[str]) -> None:
    """Refuse a file that stands where a name does, or behind it, and say where it belongs."""
    if rest:
        raise typer.BadParameter(f"{rest[0]!r} stands behind the name; write --data {rest[0]}", param_hint="NAME")
    if ("." in name or "/" in name) and Path(name).is_file():
        raise typer.BadParameter(f"{name!r} is a file; write: perennial init NAME --data {name}", param_hint="NAME")


def _by_recipe(path: Path, recipe: str, name: str, data: Path | None, *, dry_run: bool, others: bool) -> None:
    """All of a recipe, or what it would do."""
    from perennial.continual.preparation import admit_name
    from perennial.ops.cli.beginning.recipes import begin_recipe, plan_recipe, steps_of
    from perennial.ops.recipes import recipe_named

    if others:
        raise typer.BadParameter("a recipe knows task, items and columns; leave them out", param_hint="--recipe")
    chosen = recipe_named(recipe)
    steps = steps_of(path, chosen, admit_name(name) if name else "", data)
    if dry_run:
        print_json(plan_recipe(path, chosen, steps))
        return
    print_json(begin_recipe(path, chosen, steps, lambda path, model, section: _name(path, model, section=section)))


def _planned(path: Path, model: str, task: str, rows: Any, beginning: "Beginning | None") -> dict[str, Any]:
    """What `init` would do, and why it would refuse; a file that it could not read is refused here too."""
    from perennial.ops.app.wiring import configured_models
    from perennial.ops.settings import ModelSettings, load_settings

    adds = not path.is_file() or model not in configured_models(path)
    plan: dict[str, Any] = {"dry_run": True, "model": model, "task": task, "writes": str(path) if adds else None}
    if beginning is None:
        return plan
    configured = {} if not path.is_file() else load_settings(path).models
    return plan | dict(beginning.plan(rows, configured.get(model, ModelSettings(task=task)).learning))


def _task_of(path: Path, model: str, named: str, data: Path | None) -> str:
    """The model's task: as the settings have it, else as it is told; a folder of data holds images.

    Raises:
        ConfigurationError: they differ, or there is no such task.
    """
    from perennial.continual.errors import ConfigurationError
    from perennial.continual.tasks import DEFAULT_TASK, task_named
    from perennial.ops.settings import load_settings
    from perennial.ops.store.settings_file import named_models

    configured = load_settings(path).task_of(model) if model in named_models(path) else None
    if named and configured is not None and configured != task_named(named).name:
        raise ConfigurationError(
            f"{path} says that {model} is of task {configured!r}, not {named!r}; name another model"
        )
    usual = "image_classification" if data is not None and data.is_dir() else DEFAULT_TASK
    return configured or task_named(named or usual).name


def _attributes(path: Path, model: str) -> tuple[str, ...]:
    """The columns that say whose a row is, where the settings declare any."""
    from perennial.ops.settings import load_settings

    settings = load_settings(path).models.get(model) if path.is_file() else None
    return () if settings is None else settings.fairness.attributes


def _only_or_from(path: Path, data: Path | None) -> str:
    """The only configured model, or in a new workspace the name of the data's file."""
    from perennial.continual.errors import ConfigurationError
    from perennial.ops.app.wiring import configured_models
    from perennial.ops.store.settings_file import name_from

    names = configured_models(path) if path.is_file() else ()
    if len(names) > 1:
        raise ConfigurationError(f"{path} names {len(names)} models; say which: {', '.join(names)}, or a new one")
    name = names[0] if names else "" if data is None else name_from(data)
    if not name:
        raise ConfigurationError("no model is named yet; name one: perennial init NAME --data FILE")
    return name


def _name(path: Path, model: str, task: str = "", *, section: str = "") -> None:
    """Have the settings name the model, beside those that a file without names stands for."""
    from perennial.continual.tasks import DEFAULT_TASK
    from perennial.ops.app.wiring import configured_models
    from perennial.ops.store.settings_file import add_model, begin_settings, named_models

    if not path.exists() and begin_settings(path):
        say(f"wrote {path}")
    known = configured_models(path)
    if model in known and named_models(path) == ():
        return  # by the environment, or by the ledger
    for name in (*(known if named_models(path) == () else ()), model):
        named = {"task": task or DEFAULT_TASK, "section": section} if name == model else {}
        if add_model(path, name, **named):
            say(f"{path} names {name}")
