"""A model with its versions, one version, two beside each other, and what an operator may do with them."""

from collections.abc import Mapping
from typing import Any

from perennial.continual.errors import DataError
from perennial.continual.preparation.entrance import admit_note
from perennial.continual.route import ExpectedRoute
from perennial.ops.commands.rollout import request_command
from perennial.ops.console.desk import Desk, Shown, to
from perennial.ops.console.paging import classes_found, paged
from perennial.ops.console.visit import Done, Page, Visit
from perennial.ops.ledger import Conflict
from perennial.ops.views.overview import model_cards
from perennial.ops.views.status import CycleView
from perennial.ops.views.version_quality import version_report, versions_beside
from perennial.ops.views.versions import version_view

__all__ = ["add_models"]

_CYCLES = 10
_PROMOTABLE = frozenset({"exported", "published", "resident", "retired"})


def add_models(desk: Desk) -> None:
    """Add the pages and their forms."""
    _add_pages(desk)
    _add_forms(desk)


def _add_pages(desk: Desk) -> None:
    @desk.page("/console/models/{model}")
    def one_model(visit: Visit, model: str) -> Shown:
        tasks = {model: desk.task_of(model)}
        (card,) = model_cards(desk.ledger, desk.traffic, desk.control.health(), tasks, (model,))
        versions, before = list(reversed(desk.ledger.versions(model))), visit.number("before")
        left = [row for row in versions if not before or row.version < before]
        seen, beside = paged(left, "before", lambda row: row.version, begun=bool(before))
        facts = {
            "card": card,
            "versions": [version_view(row) for row in seen],
            "numbers": [row.version for row in versions],
            "cycles": [CycleView.of(row) for row in desk.ledger.cycles(model, _CYCLES)],
            **beside,
        }
        return Page("model.html", {"model": model, "task": desk.task_of(model), **facts})

    @desk.page("/console/models/{model}/versions/{version:int}")
    def one_version(visit: Visit, model: str, version: int) -> Shown:
        row = version_view(desk.ledger.version(model, version))
        route = desk.ledger.route(model)
        numbers = [each.version for each in reversed(desk.ledger.versions(model))]
        beside = visit.number("beside")
        other = version_view(desk.ledger.version(model, beside)) if beside else None
        report = version_report(desk.ledger, desk.workspace, model, version)
        classes = () if report.quality is None else report.quality.classes
        facts = {
            "row": row,
            "figures": _flat(row.metrics),
            "report": report,
            **classes_found(classes, lambda each: each.label, visit.query.get("find", ""), visit.number("behind")),
            "promotable": row.state in _PROMOTABLE and (route is None or route.champion != version),
            "champion": None if route is None else route.champion,
            "numbers": numbers,
            "other": other,
            "other_figures": {} if other is None else _flat(other.metrics),
            "differs": None if other is None else versions_beside(desk.ledger, desk.workspace, model, beside, version),
        }
        return Page("version.html", {"model": model, "task": desk.task_of(model), **facts})

    @desk.page("/console/models/{model}/beside")
    def beside(visit: Visit, model: str) -> Shown:
        """Where the form goes that chooses two versions."""
        first, second = visit.number("first"), visit.number("second")
        return Done(to=to(f"/console/models/{model}/versions/{second}", {"beside": first}))


def _add_forms(desk: Desk) -> None:
    @desk.form("/console/models/{model}/promote", needs="operator")
    def promote(visit: Visit, model: str) -> Shown:
        version, reason, seen = _version(visit), _reason(visit), _seen(visit)
        desk.control.promote(model, version, actor=visit.acting, reason=reason, expected=seen)
        return Done(to=f"/console/models/{model}", told="promoted")

    @desk.form("/console/models/{model}/rollback", needs="operator")
    def roll_back(visit: Visit, model: str) -> Shown:
        """To the version that the button named: sent twice, it must not lead back to the one that was left."""
        version, reason, seen = _version(visit), _reason(visit), _seen(visit)
        desk.control.roll_back(model, to=version, actor=visit.acting, reason=reason, expected=seen)
        return Done(to=f"/console/models/{model}", told="rolled_back")

    @desk.form("/console/models/{model}/retrain", needs="operator")
    def retrain(visit: Visit, model: str) -> Shown:
        reason = _reason(visit)
        cycle = desk.control.retrain(model, actor=visit.acting)
        if cycle is None:
            raise Conflict(f"{model} has a cycle under way; abort it, or wait for its end")
        desk.ledger.audit(visit.acting, "retrain.reason", model, {"cycle": cycle, "reason": reason})
        return Done(to=f"/console/models/{model}/rollout", told="retraining")

    @desk.form("/console/models/{model}/commands/{kind}", needs="operator")
    def command(visit: Visit, model: str, kind: str) -> Shown:
        reason = _reason(visit)
        with desk.ledger.transaction():
            effect = request_command(desk.ledger, model, kind, visit.acting)
            _check_shown(visit, effect.cycle)
            facts = {"kind": kind, "command": effect.command, "cycle": effect.cycle, "reason": reason}
            desk.ledger.audit(visit.acting, "command.reason", model, facts)
        return Done(to=f"/console/models/{model}/rollout", told="asked")


def _flat(figures: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """What a version's making noted, by its part; what stands outside of any part is of its own."""
    parts: dict[str, dict[str, Any]] = {}
    for name, value in figures.items():
        if isinstance(value, Mapping):
            parts[name] = {key: each for key, each in value.items() if not isinstance(each, Mapping)}
        else:
            parts.setdefault("", {})[name] = value
    return parts


def _version(visit: Visit) -> int:
    version = visit.given_number("version", digits=9)
    if version is None:
        raise DataError(f"version is {visit.form.get('version', '')[:20]!r}; choose one of the list")
    return version


def _seen(visit: Visit) -> ExpectedRoute:
    """The champion that the page showed."""
    return ExpectedRoute(champion=visit.given_number("champion", digits=9))


def _check_shown(visit: Visit, cycle: int | None) -> None:
    """Refuse a command that was given to another cycle than the one under way: nobody has looked at this one."""
    if cycle is not None and (named := visit.form.get("cycle", "")) != str(cycle):
        shown = named[:20] or "?"
        raise Conflict(f"the page showed cycle {shown}, and cycle {cycle} is under way now; look at it first")


def _reason(visit: Visit) -> str:
    return admit_note(visit.form.get("reason", ""))
