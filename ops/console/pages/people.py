"""People and programs: their accounts, roles and tokens, for an administrator of all models."""

from collections.abc import Callable, Mapping

from perennial.continual.errors import DataError, NotFound, Refused
from perennial.ops.commands.accounts import AccountView, add_token, checked_name, set_account
from perennial.ops.console.desk import Desk, Shown
from perennial.ops.console.visit import Done, Page, Visit
from perennial.ops.safety.roles import EVERY, Role
from perennial.ops.views.overview import known_models

__all__ = ["add_people"]

_HERE = "/console/people"
_NO_ROLE = "none"


def add_people(desk: Desk) -> None:
    """Add the page and its forms."""

    @desk.page(_HERE, needs="admin")
    def people(_: Visit) -> Shown:
        return _page(desk)

    @desk.form(f"{_HERE}/{{act}}", needs="admin")
    def change(visit: Visit, act: str) -> Shown:
        if act not in _ACTS:
            raise NotFound(f"an account can be {', '.join(_ACTS)}, and not {act[:20]!r}")
        return _ACTS[act](desk, visit, checked_name(visit.form.get("account", "")))


def _page(desk: Desk, made: Mapping[str, object] | None = None) -> Page:
    facts = {
        "accounts": [AccountView.of(row) for row in desk.ledger.accounts()],
        "asked": desk.workspace.settings.api.accounts,
        "models": (EVERY, *known_models(desk.ledger)),
        "roles": [*(role.word for role in Role), _NO_ROLE],
        "made": made,
    }
    return Page("people.html", facts)


def _set(desk: Desk, visit: Visit, account: str) -> Shown:
    """A role for one model, and a password where one is given; the roles for other models stay."""
    _check_other(visit, account)
    role, password = visit.form.get("role", ""), visit.form.get("password") or None
    changed = {visit.form.get("model", ""): None if role == _NO_ROLE else role}
    set_account(desk.ledger, account, actor=visit.acting, changed=changed, password=password)
    return Done(to=_HERE, told="changed")


def _block(desk: Desk, visit: Visit, account: str) -> Shown:
    _check_other(visit, account)
    desk.ledger.account(account)  # a form that grew old makes no account
    set_account(desk.ledger, account, actor=visit.acting, blocked=visit.form.get("blocked") == "yes")
    return Done(to=_HERE, told="changed")


def _remove(desk: Desk, visit: Visit, account: str) -> Shown:
    _check_other(visit, account)
    desk.ledger.remove_account(account, actor=visit.acting)
    return Done(to=_HERE, told="changed")


def _token(desk: Desk, visit: Visit, account: str) -> Shown:
    """A page and no redirect: the token is told this once."""
    days = visit.form.get("days", "").strip()
    lasts = visit.given_number("days", digits=4) if days else None
    if days and not lasts:
        raise DataError(f"a token lasts for a whole number of days, 1 to 9999, and not {days[:20]!r}")
    label = visit.form.get("label", "").strip()
    made = add_token(desk.ledger, account, label=label, days=lasts, actor=visit.acting)
    return _page(desk, {"account": account, "token": made.token})


def _revoke(desk: Desk, visit: Visit, account: str) -> Shown:
    number = visit.given_number("number")
    desk.ledger.revoke_access_token(account, number or 0, actor=visit.acting)
    return Done(to=_HERE, told="changed")


_ACTS: Mapping[str, Callable[[Desk, Visit, str], Shown]] = {
    "set": _set,
    "block": _block,
    "remove": _remove,
    "token": _token,
    "revoke": _revoke,
}


def _check_other(visit: Visit, account: str) -> None:
    """Nobody shuts themselves out by a slip.

    Raises:
        Refused: the account is the visitor's own.
    """
    if account == visit.acting:
        raise Refused(f"{account} is your own account; another administrator, or `perennial account`, changes it")
