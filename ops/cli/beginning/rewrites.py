"""A first version of generation: a decoder as it is, or with what accepted edits teach it."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from perennial.ops.cli.beginning.port import Files
from perennial.ops.cli.console import say
from perennial.ops.cli.session import session

if TYPE_CHECKING:
    from perennial.continual.tasks.generation import AcceptedEdit
    from perennial.ops.settings import LearningSettings

__all__ = ["make", "plan", "read"]


def read(files: Files) -> "tuple[AcceptedEdit, ...]":
    """The approved replies with the edits that were accepted."""
    from perennial.continual.errors import ConfigurationError
    from perennial.continual.records import Origin
    from perennial.ops.commands.edit_file import read_edit_file

    if files.items is not None:
        raise ConfigurationError(f"--items {files.items} is a catalogue, which goes with --task ranking; leave it out")
    return read_edit_file(files.data, reading=files.reading, origin=Origin.SEED).edits


def plan(edits: "tuple[AcceptedEdit, ...]", learning: "LearningSettings") -> dict[str, Any]:
    """How many replies there are, how many were edited, and how many of these edits change a fact."""
    return _counted(edits) | {"decoder": _decoder(learning), "then": "export and publish version 1"}


def make(config: Path, model: str, edits: "tuple[AcceptedEdit, ...]") -> dict[str, Any]:
    """Make it, and tell how much of what it would say is let through."""
    from perennial.ops.cli.progress import stages
    from perennial.ops.commands.first_version import first_version

    counted = _counted(edits)
    if counted["edits_that_change_facts"]:
        say(f"{counted['edits_that_change_facts']} edits say something else than their reply; they are not learnt")
    with session(config) as parts, stages(f"first version of {model}") as on_progress:
        made = first_version(parts.ledger, parts.workspace, model, edits, on_progress)
    return {"model": model, "version": made.version, "rows": made.rows, **counted, "bundle": str(made.bundle)}


def _counted(edits: "tuple[AcceptedEdit, ...]") -> dict[str, int]:
    from perennial.continual.tasks.generation import check_rewrite

    edited = [edit for edit in edits if edit.target != edit.input.approved]
    wrong = [
        edit for edit in edited if not check_rewrite(edit.input.approved, edit.target, name=edit.input.name).let_through
    ]
    return {"replies": len(edits), "edited": len(edited), "edits_that_change_facts": len(wrong)}


def _decoder(learning: "LearningSettings") -> str:
    from perennial.continual.learning.generation.training import RewriterSettings

    return RewriterSettings.of(learning.params).decoder
