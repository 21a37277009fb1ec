"""A first version of replies: made of approved answers and the questions that they answer."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perennial.ops.cli.beginning.port import Files
from perennial.ops.cli.console import say
from perennial.ops.cli.session import session

if TYPE_CHECKING:
    from perennial.continual.learning.replies.files import ReplyFile
    from perennial.continual.records import Example
    from perennial.ops.settings import LearningSettings

__all__ = ["RepliesRead", "make", "plan", "read"]

MESSAGES = "messages"  # the role of a recipe's file with further labelled messages


@dataclass(frozen=True, slots=True, kw_only=True)
class RepliesRead:
    """The replies with their questions, and messages of which the intent alone is known."""

    found: "ReplyFile"
    messages: "Sequence[Example]" = ()


def read(files: Files) -> RepliesRead:
    """The replies, and the messages of a recipe's folder where it has such a file."""
    from perennial.continual.errors import ConfigurationError
    from perennial.continual.learning.replies.files import read_reply_file
    from perennial.continual.preparation import read_labelled_file

    if files.items is not None:
        raise ConfigurationError(f"--items {files.items} is a catalogue, which goes with --task ranking; leave it out")
    found = read_reply_file(files.data, reading=files.reading)
    messages = files.others.get(MESSAGES)
    return RepliesRead(found=found, messages=() if messages is None else read_labelled_file(messages))


def plan(replies_read: RepliesRead, learning: "LearningSettings") -> dict[str, Any]:
    """How many replies, questions and intents there are."""
    from perennial.continual.errors import DataError
    from perennial.continual.learning.learners import learner_named
    from perennial.ops.commands.first_replies import examples_of

    counted = _counted(replies_read)
    try:
        learner_named(learning.learner).first_rows([*examples_of(replies_read.found), *replies_read.messages])
    except DataError as refusal:
        return counted | {"then": f"refused: {refusal}"}
    return counted | {"then": "train and publish version 1"}


def make(config: Path, model: str, replies_read: RepliesRead) -> dict[str, Any]:
    """Train it, and say how often the right reply was found for questions that were left out."""
    from perennial.continual.learning.replies import Matcher
    from perennial.ops.cli.progress import stages
    from perennial.ops.commands.first_replies import first_replies

    with session(config) as parts, stages(f"first version of {model}") as on_progress:
        made = first_replies(
            parts.ledger, parts.workspace, model, replies_read.found, replies_read.messages, on_progress
        )
    figures = dict(Matcher.read(made.bundle).metrics)
    for line in _lines(figures):
        say(line)
    return {
        "model": model,
        "version": made.version,
        "rows": made.rows,
        **_counted(replies_read),
        "bundle": str(made.bundle),
        "held_out": figures,
    }


def _counted(replies_read: RepliesRead) -> dict[str, Any]:
    found = replies_read.found
    return {
        "replies": len(found.replies),
        "questions": len(found.questions),
        "messages": len(replies_read.messages),
        "intents": len({reply.intent for reply in found.replies} | {row.label for row in replies_read.messages}),
    }


def _lines(figures: dict[str, float]) -> list[str]:
    if not figures:
        return ["too few approved questions to learn weights of: replies are matched by usual weights"]
    cold = f"on {figures['pairs']:.0f} questions left out, the right reply is among the first three for "
    lines = [f"{cold}{figures['cold_recall_3']:.1%} where no question is approved"]
    if "warm_recall_1" in figures:  # absent where no reply has two questions
        lines.append(
            f"where others are approved for the same reply, it is first for {figures['warm_recall_1']:.1%} and among "
            f"three for {figures['warm_recall_3']:.1%}"
        )
    return [
        *lines,
        "nothing is sent by itself until `perennial reply sending --precision 0.95` says how precise it must be",
    ]
