"""The catalogue of a ranking, changed as it stands: the next version has what came, and is without what went.

Each change is in the audit log, with who made it and what stood before.
"""

import fcntl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

from perennial.continual.errors import NotFound
from perennial.continual.learning.ranking import Item, ItemRule, RuleText, write_items
from perennial.continual.learning.ranking.trained import read_items
from perennial.continual.preparation import shown
from perennial.ops.ledger import Ledger
from perennial.ops.store.user_events import UserEvents
from perennial.ops.store.workspace import Workspace

__all__ = ["CatalogueChange", "RuleChange", "add_items", "catalogue", "change_rule", "rules_of", "withdraw_items"]

_TOLD = 20  # items that an entry of the audit log names


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogueChange:
    """What became of a catalogue, or would."""

    new: int
    changed: int
    same: int
    items: int  # in all, afterwards


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleChange:
    """A rule that holds from now on, or would; None: it holds no more. `items` of the catalogue fall under it."""

    name: str
    rule: ItemRule | None
    items: int


def catalogue(workspace: Workspace, model: str) -> tuple[Item, ...]:
    """The items that the next version will know.

    Raises:
        NotFound: the model has none.
        DataError: the file is damaged.
    """
    if not (path := workspace.items(model)).is_file():
        raise NotFound(f"model {model} has no catalogue ({path}); make its first version with `perennial init`")
    return read_items(path)


def add_items(
    ledger: Ledger, workspace: Workspace, model: str, items: Sequence[Item], *, actor: str, dry_run: bool = False
) -> CatalogueChange:
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
    new = [name for name in given if name not in before]
    changed = [name for name, item in given.items() if name in before and before[name] != item]
    change = CatalogueChange(
        new=len(new), changed=len(changed), same=len(given) - len(new) - len(changed), items=len(after)
    )
    if not dry_run and (new or changed):
        told = {name: {"before": _of_item(before[name]), "after": _of_item(given[name])} for name in changed[:_TOLD]}
        ledger.audit(actor, "items.added", model, {**asdict(change), "added": new[:_TOLD], "changes": told})
    return change


def withdraw_items(
    ledger: Ledger,
    workspace: Workspace,
    model: str,
    names: Sequence[str],
    *,
    actor: str,
    withdrawn: bool = True,
    dry_run: bool = False,
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
    if changed and not dry_run:
        what = "items.withdrawn" if withdrawn else "items.put_back"
        ledger.audit(actor, what, model, {"items": changed[:_TOLD], "changed": len(changed)})
    return CatalogueChange(new=0, changed=len(changed), same=len(wanted) - len(changed), items=len(known))


def change_rule(
    ledger: Ledger,
    workspace: Workspace,
    model: str,
    name: str,
    rule: ItemRule | None,
    *,
    actor: str,
    dry_run: bool = False,
) -> RuleChange:
    """Let a rule hold for every list from now on, or the one of this name no more; nothing is retrained.

    Raises:
        NotFound: there is no rule of this name, or see `catalogue`. DependencyUnreachable: the users' file is locked.
    """
    items = catalogue(workspace, model)
    known = {each.name: each for each in rules_of(workspace, model)}
    if rule is None and name not in known:
        raise NotFound(f"{model} has no rule {shown(name)}; `perennial items rules` shows them")
    meant = rule or known[name]
    if not dry_run:
        with UserEvents(workspace.user_events(model)) as users:
            before = users.drop_rule(name) if rule is None else users.state_rule(rule)
        if before != rule:
            detail = {"rule": name, "before": _of_rule(before), "after": _of_rule(rule)}
            ledger.audit(actor, "items.rule_removed" if rule is None else "items.rule_stated", model, detail)
    under = sum(meant.leaves_out(RuleText(item.text)) for item in items)
    return RuleChange(name=name, rule=rule, items=under)


def rules_of(workspace: Workspace, model: str) -> tuple[ItemRule, ...]:
    """The rules that hold for every list.

    Raises:
        DependencyUnreachable: the users' file cannot be read.
    """
    path = workspace.user_events(model)
    if not path.is_file():
        return ()
    with UserEvents(path) as users:
        return users.rules()


@contextmanager
def _alone(workspace: Workspace, model: str) -> Iterator[None]:
    """While the block runs, no other command changes the catalogue."""
    path = workspace.items(model)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_suffix(".lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _of_item(item: Item) -> dict[str, Any]:
    return {name: value for name, value in asdict(item).items() if name != "name"}


def _of_rule(rule: ItemRule | None) -> dict[str, Any] | None:
    return None if rule is None else {"words": list(rule.words), "segment": rule.segment}
