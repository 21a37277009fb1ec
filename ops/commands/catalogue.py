"""The catalogue of a ranking, changed as it stands: the next version has what came, and is without what went."""

import fcntl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from perennial.continual.errors import NotFound
from perennial.continual.learning.ranking import Item, write_items
from perennial.continual.learning.ranking.trained import read_items
from perennial.continual.preparation import shown
from perennial.ops.store.user_events import UserEvents
from perennial.ops.store.workspace import Workspace

__all__ = ["CatalogueChange", "add_items", "catalogue", "withdraw_items"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogueChange:
    """What became of a catalogue, or would."""

    new: int
    changed: int
    same: int
    items: int  # in all, afterwards


def catalogue(workspace: Workspace, model: str) -> tuple[Item, ...]:
    """The items that the next version will know.

    Raises:
        NotFound: the model has none.
        DataError: the file is damaged.
    """
    if not (path := workspace.items(model)).is_file():
        raise NotFound(f"model {model} has no catalogue ({path}); make its first version with `perennial init`")
    return read_items(path)


def add_items(workspace: Workspace, model: str, items: Sequence[Item], *, dry_run: bool = False) -> CatalogueChange:
    """Add items, and give those that are there what is said of them now; the others stay as they are.

    Raises:
        As `catalogue`.
    """
    with _alone(workspace, model):
        before = {item.name: item for item in catalogue(workspace, model)}
        after = before | {item.name: item for item in items}
        if not dry_run and after != before:
            write_items(workspace.items(model), tuple(after.values()))
    given = {item.name: item for item in items}
    return CatalogueChange(
        new=len(given.keys() - before.keys()),
        changed=sum(name in before and before[name] != item for name, item in given.items()),
        same=sum(before.get(name) == item for name, item in given.items()),
        items=len(after),
    )


def withdraw_items(
    workspace: Workspace, model: str, names: Sequence[str], *, withdrawn: bool = True, dry_run: bool = False
) -> CatalogueChange:
    """Take items out of every list from now on, or put them back; versions keep what they learnt of them.

    Raises:
        NotFound: the catalogue lacks one, or see `catalogue`. DependencyUnreachable: the users' file is locked.
    """
    known = {item.name for item in catalogue(workspace, model)}
    if strange := [name for name in names if name not in known]:
        raise NotFound(f"the catalogue of {model} has no item {shown(strange[0])}; `perennial items list` shows them")
    wanted, path = dict.fromkeys(names), workspace.user_events(model)
    with UserEvents(path) as users:
        before = users.withdrawn() if path.is_file() else frozenset()
        changed = [name for name in wanted if (name in before) is not withdrawn]
        if not dry_run:
            users.withdraw(changed, withdrawn=withdrawn)
    return CatalogueChange(new=0, changed=len(changed), same=len(wanted) - len(changed), items=len(known))


@contextmanager
def _alone(workspace: Workspace, model: str) -> Iterator[None]:
    """While the block runs, no other command changes the catalogue."""
    path = workspace.items(model)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_suffix(".lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
