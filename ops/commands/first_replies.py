"""The first version of replies: the library is kept, then a version is made of its approved questions."""

from collections.abc import Sequence
from datetime import UTC, datetime

from perennial.continual.jobs.process import Progress
from perennial.continual.learning.replies.files import ReplyFile
from perennial.continual.records import Example, Origin
from perennial.ops.commands.first_version import FirstVersion, check_unserved, first_version
from perennial.ops.ledger import Ledger
from perennial.ops.store.reply_store import ReplyStore
from perennial.ops.store.workspace import Workspace

__all__ = ["examples_of", "first_replies"]


def examples_of(read: ReplyFile) -> tuple[Example, ...]:
    """The questions with the intents of their replies."""
    intents = {reply.id: reply.intent for reply in read.replies}
    now = datetime.now(UTC)
    return tuple(
        Example(text=question.text, label=intents[question.reply], at=now, origin=Origin.SEED)
        for question in read.questions
    )


def first_replies(
    ledger: Ledger,
    workspace: Workspace,
    model: str,
    read: ReplyFile,
    further: Sequence[Example] = (),
    on_progress: Progress = lambda _: None,
) -> FirstVersion:
    """Keep replies and questions, train on them and on `further` labelled messages, and publish.

    Raises:
        Refused: the model serves already.
        DataError: there are too few rows.
        TrainingFailed, ParityFailed, ExportFailed: see `first_version`.
    """
    check_unserved(ledger, workspace, model)
    with ReplyStore(workspace.replies(model)) as store:
        store.put(read.replies)
        store.approve_questions(read.questions)
    return first_version(ledger, workspace, model, (*examples_of(read), *further), on_progress)
