"""What a recipe has of its own: a library of replies, a catalogue with its users, alerts with their events."""

from pathlib import Path

from perennial.continual.errors import DataError
from perennial.continual.learning.ranking import Item
from perennial.ops.commands.catalogue import catalogue, withdraw_items
from perennial.ops.commands.users import user_profile
from perennial.ops.console.desk import Desk, Shown, to
from perennial.ops.console.paging import ROWS, page_after
from perennial.ops.console.visit import Done, Page, Visit
from perennial.ops.store.alerts import AlertState
from perennial.ops.store.workspace import Workspace

__all__ = ["add_recipes"]


def add_recipes(desk: Desk) -> None:
    """Add the pages and their forms."""
    _add_replies(desk)
    _add_items(desk)
    _add_alerts(desk)


def _add_replies(desk: Desk) -> None:
    @desk.page("/console/models/{model}/replies", needs="labeller")
    def replies(visit: Visit, model: str) -> Shown:
        library, state = desk.control.reply_library(model), visit.query.get("state", "")
        listed = sorted(library.listed(state=state), key=lambda reply: reply.id)
        seen, beside = page_after(listed, lambda reply: reply.id, visit.query.get("after", ""))
        facts = {
            "replies": seen,
            "state_": state,
            "sending": library.sending(),
            **beside,
        }
        return Page("replies.html", {"model": model, "task": desk.task_of(model), **facts})

    @desk.form("/console/models/{model}/replies", needs="operator")
    def decide(visit: Visit, model: str) -> Shown:
        library, actor = desk.control.reply_library(model), visit.acting
        reply, act = visit.form.get("reply", ""), visit.form.get("act", "")
        if act == "change":
            library.change(reply, {"reply": visit.form.get("text", "")}, actor=actor)
        elif act == "withdraw":
            library.withdraw(reply, actor=actor)
        elif act == "approve":
            library.approve(reply, actor=actor)
        else:
            raise DataError(f"a reply is changed, approved or withdrawn, and not {act[:20]!r}")
        return Done(to=f"/console/models/{model}/replies", told="changed")


def _add_items(desk: Desk) -> None:
    listing = _Listing(desk.workspace)

    @desk.page("/console/models/{model}/items", needs="labeller")
    def items(visit: Visit, model: str) -> Shown:
        listed = listing.of(model)
        wanted = visit.query.get("find", "").strip().lower()
        found = [item for item in listed if wanted in item.name.lower() or wanted in item.text.lower()]
        seen, beside = page_after(found, lambda item: item.name, visit.query.get("after", ""))
        user = visit.query.get("user", "").strip()
        facts = {
            "items": seen,
            "all": len(found),
            "find": wanted,
            "user": user,
            "profile": user_profile(desk.workspace, model, user) if user else None,
            **beside,
        }
        return Page("items.html", {"model": model, "task": desk.task_of(model), **facts})

    @desk.form("/console/models/{model}/items", needs="operator")
    def withdraw(visit: Visit, model: str) -> Shown:
        item, back = visit.form.get("item", ""), visit.form.get("act", "") == "back"
        withdraw_items(desk.ledger, desk.workspace, model, [item], actor=visit.acting, withdrawn=not back)
        return Done(to=f"/console/models/{model}/items", told="changed")


class _Listing:
    """Catalogues by name; one is read anew once its file is another one."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._kept: dict[str, tuple[tuple[int, int], tuple[Item, ...]]] = {}

    def of(self, model: str) -> tuple[Item, ...]:
        stamp, kept = _stamp(self._workspace.items(model)), self._kept.get(model)
        if kept is None or kept[0] != stamp:
            kept = stamp, tuple(sorted(catalogue(self._workspace, model), key=lambda item: item.name))
            self._kept[model] = kept
        return kept[1]


def _stamp(path: Path) -> tuple[int, int]:
    try:
        seen = path.stat()
    except FileNotFoundError:
        return 0, 0
    return seen.st_mtime_ns, seen.st_size


def _add_alerts(desk: Desk) -> None:
    @desk.page("/console/models/{model}/alerts", needs="labeller")
    def alerts(visit: Visit, model: str) -> Shown:
        state = visit.query.get("state", "")
        chosen = _alert_state(state) if state else None
        facts = {
            "alerts": desk.control.alerts(model, state=chosen, last=ROWS),
            "events": desk.control.news_events(model, last=20),
            "state_": state,
        }
        return Page("alerts.html", {"model": model, "task": desk.task_of(model), **facts})

    @desk.form("/console/models/{model}/alerts", needs="labeller")
    def judge(visit: Visit, model: str) -> Shown:
        number, state = visit.given_number("number"), _alert_state(visit.form.get("state", ""))
        if number is None:
            raise DataError("the form names no alert; load the page again")
        desk.control.judge(model, number, state, actor=visit.acting, note=visit.form.get("note", ""))
        return Done(to=to(f"/console/models/{model}/alerts") + f"#alert-{number}", told="changed")


def _alert_state(name: str) -> AlertState:
    try:
        return AlertState(name)
    except ValueError:
        raise DataError(f"an alert is {', '.join(AlertState)}, and not {name[:20]!r}") from None
