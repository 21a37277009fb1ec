"""`init`: a model named, its first version made of labelled rows, and the truth about both in the same minute."""

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
from perennial.ops.cli.session import session
from perennial.ops.cli.taking_over import is_classifier, take_over

if TYPE_CHECKING:
    from perennial.continual.quality import RowFindings
    from perennial.continual.records import Example
    from perennial.ops.settings import LearningSettings

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(init)


def init(
    name: Annotated[
        str, typer.Argument(help="the model; default the only one of perennial.toml, or the name of the data's file")
    ] = "",
    data: Annotated[Path | None, typer.Option(help=f"labelled rows, with text and label; {KINDS}")] = None,
    model: Annotated[
        str,
        typer.Option("--model", "-m", help="a fine-tuned classifier's folder to serve as version 1; or as NAME"),
    ] = "",
    column: ColumnOption = None,
    encoding: EncodingOption = None,
    delimiter: DelimiterOption = None,
    sheet: SheetOption = None,
    dry_run: DryRunOption = False,
    config: ConfigOption = None,
) -> None:
    """Name a model in perennial.toml, which is written where there is none; with --data, train its first version.

    It says what is wrong with the rows, how good the version is on rows that it has not learnt, and whether a simple
    baseline does better. With --model FOLDER the first version is a classifier that transformers saved, or an ONNX
    file: its own head, labels and tokenizer. A `perennial serve` that runs there takes the new model up by itself.
    """
    from perennial.continual.preparation import admit_name, read_labelled_file

    path = config or Path("perennial.toml")
    if is_classifier(model):
        take_over(path, name, Path(model), data=data, dry_run=dry_run, name_model=_name)
        return
    if name and model and name != model:
        raise typer.BadParameter(f"{name!r} and --model {model!r} are two names; give one", param_hint="NAME")
    chosen = admit_name(name or model or _only_or_from(path, data))
    reading = file_reading(column, encoding, delimiter, sheet)
    examples = None if data is None else read_labelled_file(data, reading=reading)
    if dry_run:
        print_json(_planned(path, examples, chosen))
        return
    _name(path, chosen)
    if examples is None:
        say(f"next: perennial init {chosen} --data FILE")
        return
    print_json(_made(path, examples, chosen))


def _made(path: Path, examples: "Sequence[Example]", model: str) -> dict[str, Any]:
    """Make the first version, and tell what became of it and how good it is."""
    from perennial.ops.cli.progress import stages
    from perennial.ops.commands.first_version import first_version
    from perennial.ops.views.model_report import model_report
    from perennial.ops.views.model_report_lines import report_lines

    with session(path) as parts:
        findings = _examined(examples, parts.workspace.model(model).learning)
        with stages(f"first version of {model}") as on_progress:
            first = first_version(parts.ledger, parts.workspace, model, examples, on_progress)
            on_progress({"stage": "compare with baselines"})
            report = model_report(parts.ledger, parts.workspace, model, first.version, findings)
    for line in report_lines(report):
        say(line)
    return {
        "model": model,
        "version": first.version,
        "rows": first.rows,
        "labels": len(first.labels),
        "replay_rows": first.replay_rows,
        "bundle": str(first.bundle),
        "report": report,
    }


def _planned(path: Path, examples: "Sequence[Example] | None", model: str) -> dict[str, Any]:
    """What `init` would do, and why it would refuse; a file that it could not read is refused here too."""
    from perennial.continual.errors import DataError
    from perennial.ops.app.wiring import configured_models
    from perennial.ops.commands.first_version import rows_to_learn
    from perennial.ops.settings import ModelSettings, load_settings

    adds = not path.is_file() or model not in configured_models(path)
    plan: dict[str, Any] = {"dry_run": True, "model": model, "writes": str(path) if adds else None}
    if examples is None:
        return plan
    configured = {} if not path.is_file() else load_settings(path).models
    findings = _examined(examples, configured.get(model, ModelSettings()).learning)
    plan |= {"rows": len(examples), "labels": findings.labels, "findings": findings}
    try:
        rows_to_learn(examples)
    except DataError as refusal:
        return plan | {"then": f"refused: {refusal}"}
    return plan | {"then": "train and publish version 1"}


def _examined(examples: "Sequence[Example]", learning: "LearningSettings") -> "RowFindings":
    """What the rows tell, said on stderr before the work begins."""
    from perennial.continual.quality import examine_rows
    from perennial.ops.views.model_report_lines import finding_lines

    findings = examine_rows(examples, min_class_rows=learning.min_class_rows, holdout_share=learning.holdout_share)
    for line in finding_lines(findings):
        say(line)
    return findings


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


def _name(path: Path, model: str) -> None:
    """Have the settings name the model, beside those that a file without names stands for."""
    from perennial.ops.app.wiring import configured_models
    from perennial.ops.store.settings_file import add_model, begin_settings, named_models

    if not path.exists():
        begin_settings(path)
        say(f"wrote {path}")
    known = configured_models(path)
    if model in known and named_models(path) == ():
        return  # by the environment, or by the ledger
    for name in (*(known if named_models(path) == () else ()), model):
        if add_model(path, name):
            say(f"{path} names {name}")
