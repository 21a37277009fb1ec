"""A first version of labelled texts: what is wrong with them, how good it is, and whether a baseline does better."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perennial.ops.cli.beginning.port import Files
from perennial.ops.cli.console import say
from perennial.ops.cli.session import session

if TYPE_CHECKING:
    from perennial.continual.learning.encoder_choice import EncoderChoice
    from perennial.continual.quality import RowFindings
    from perennial.continual.records import Example
    from perennial.ops.settings import LearningSettings

__all__ = ["make", "plan", "read"]


def read(files: Files) -> "list[Example]":
    """The labelled texts."""
    from perennial.continual.errors import ConfigurationError
    from perennial.continual.preparation import read_labelled_file

    if files.items is not None:
        raise ConfigurationError(f"--items {files.items} is a catalogue, which goes with --task ranking; leave it out")
    return read_labelled_file(files.data, reading=files.reading, attributes=files.attributes)


def plan(examples: "Sequence[Example]", learning: "LearningSettings") -> dict[str, Any]:
    """How many rows and labels there are, and what was found."""
    from perennial.continual.errors import InputError
    from perennial.continual.learning.learners import learner_named
    from perennial.ops.making.encoder_for import encoder_for

    findings = _examined(examples, learning)
    plan: dict[str, Any] = {"rows": len(examples), "labels": findings.labels, "findings": findings}
    try:
        learner_named(learning.learner).first_rows(examples)
        choice = encoder_for(learning, [row.text for row in examples])
    except InputError as refusal:
        return plan | {"then": f"refused: {refusal}"}
    _say(choice, learning)
    plan["encoder"] = choice.encoder
    return plan | {"then": "train and publish version 1"}


def make(config: Path, model: str, examples: "Sequence[Example]") -> dict[str, Any]:
    """Train it, and compare it with baselines."""
    from perennial.ops.cli.progress import stages
    from perennial.ops.commands.first_version import first_version
    from perennial.ops.views.model_report import model_report
    from perennial.ops.views.model_report_lines import report_lines

    with session(config) as parts:
        learning = parts.workspace.model(model).learning
        findings = _examined(examples, learning)
        with stages(f"first version of {model}") as on_progress:
            made = first_version(parts.ledger, parts.workspace, model, examples, on_progress)
            on_progress({"stage": "compare with baselines"})
            report = model_report(parts.ledger, parts.workspace, model, made.version, findings)
    if made.encoder is not None:
        _say(made.encoder, learning)
    for line in report_lines(report):
        say(line)
    return {
        "model": model,
        "version": made.version,
        "rows": made.rows,
        "labels": len(made.labels),
        "replay_rows": made.replay_rows,
        "encoder": None if made.encoder is None else made.encoder.encoder,
        "bundle": str(made.bundle),
        "report": report,
    }


def _say(choice: "EncoderChoice", learning: "LearningSettings") -> None:
    """Tell of an encoder that the settings do not name, and why it is the one."""
    from perennial.continual.learning.names import AUTO_ENCODER

    if learning.encoder == AUTO_ENCODER:
        say(choice.told)


def _examined(examples: "Sequence[Example]", learning: "LearningSettings") -> "RowFindings":
    """What the rows tell, said on stderr before the work begins."""
    from perennial.continual.quality import examine_rows
    from perennial.ops.views.model_report_lines import finding_lines

    findings = examine_rows(examples, min_class_rows=learning.min_class_rows, holdout_share=learning.holdout_share)
    for line in finding_lines(findings):
        say(line)
    return findings
