"""Which of a model's pictures a row still names; the others leave their store."""

from collections.abc import Collection, Sequence

from perennial.continual.errors import DataError
from perennial.continual.images import ImageStore, is_image_name
from perennial.continual.preparation import shown
from perennial.continual.records import Example
from perennial.ops.ledger.ports import Examples
from perennial.ops.store.traffic_of import traffic_of
from perennial.ops.store.workspace import Workspace

__all__ = ["check_pictures", "forget_pictures", "sweep_pictures"]

_ON_ITS_WAY_S = 3_600.0  # between a picture that is kept and the log's row that names it, at most


def check_pictures(workspace: Workspace, model: str, rows: Sequence[object]) -> None:
    """Return where each example among the rows can be learnt: its picture is kept, or it names none.

    Raises:
        DataError: a picture is not there; every later training would fail.
    """
    if (folder := workspace.named_inputs(model)) is None:
        return
    store = ImageStore(folder)
    for row in rows:
        if isinstance(row, Example) and not store.holds(row.text):
            raise DataError(f"{shown(row.text)} has no picture here; label an answered request, or import a file")


def forget_pictures(ledger: Examples, workspace: Workspace, model: str, *, among: Collection[str]) -> int:
    """Delete those of the pictures that no row of log or ledger names any more; returns how many were there."""
    names = {text for text in among if is_image_name(text)}
    folder = workspace.images(model)
    if not names or not folder.is_dir():
        return 0
    return ImageStore(folder).forget(names - _named(ledger, workspace, model))


def sweep_pictures(ledger: Examples, workspace: Workspace, model: str) -> int:
    """Delete the pictures that no row names any more, such as those of requests that the log has forgotten."""
    folder = workspace.images(model)
    if not folder.is_dir():
        return 0
    store = ImageStore(folder)
    return store.keep_only(_named(ledger, workspace, model), older_than_s=_ON_ITS_WAY_S)


def _named(ledger: Examples, workspace: Workspace, model: str) -> set[str]:
    logged = traffic_of(workspace, model).read(columns=["text"])["text"].unique().to_pylist()
    learnt = (stored.example.input for stored in ledger.examples(model))
    return {name for name in (*logged, *learnt) if is_image_name(name)}
