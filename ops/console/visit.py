"""One request of a page, and what it is answered with."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from perennial.ops.safety.roles import EVERY, Caller, Role

__all__ = ["Done", "Page", "Raw", "Visit"]

_DIGITS = 11
_MOST = 2**31 - 1  # of the ledger's columns


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """Who asks, in which language, and with what. `caller` is None for a stranger; `open` where nobody is asked.

    `model` is the one that the page is of, or `*`.
    """

    path: str
    language: str
    caller: Caller | None
    model: str = EVERY
    open: bool
    form_secret: str
    secure: bool = False  # the browser came by TLS
    cookie: str = ""
    provider_cookie: str = ""  # of a sign-in at the identity provider that is under way
    seat: str = ""  # a number of the browser, so that no two people get the same text
    mark: str = ""  # of the state of things before the page was made
    query: Mapping[str, str] = field(default_factory=dict)
    form: Mapping[str, str] = field(default_factory=dict)

    def may(self, role: str) -> bool:
        """Tell whether the visitor has this role, or a higher one, for what the page is of."""
        return self.caller is not None and self.caller.may(Role[role.upper()], self.model)

    def may_everywhere(self, role: str) -> bool:
        """Tell whether the visitor has this role for what belongs to no model."""
        return self.caller is not None and self.caller.may(Role[role.upper()])

    def sees(self, model: str) -> bool:
        """Tell whether the visitor may look at a model."""
        return self.caller is not None and self.caller.may(Role.VIEWER, model)

    @property
    def role(self) -> str | None:
        """Return the role for what the page is of; where there is none for all models, the highest one held."""
        if self.caller is None:
            return None
        role = self.caller.role(self.model)
        role = self.caller.most if role is None else role
        return None if role is None else role.word

    def number(self, name: str) -> int:
        """Return a whole number of the query; 0 where there is none that is one."""
        return min(_whole(self.query.get(name, ""), _DIGITS) or 0, _MOST)

    def given_number(self, name: str, *, digits: int = _DIGITS) -> int | None:
        """Return a whole number of the form; None where there is none that is one of so many digits at most."""
        return _whole(self.form.get(name, ""), digits)

    @property
    def acting(self) -> str:
        """Who acts, as the audit log names it."""
        return "local" if self.caller is None else self.caller.name


@dataclass(frozen=True, slots=True)
class Page:
    """A page to be rendered: its template, and what that shows."""

    template: str
    facts: Mapping[str, object] = field(default_factory=dict)
    status: int = 200
    seated: bool = False  # the browser keeps its seat


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """A form that did its work: where to go on, and which words of the catalogue tell what was done."""

    to: str
    told: str = ""
    cookie: str | None = None  # a session that begins; empty for one that ends


@dataclass(frozen=True, slots=True, kw_only=True)
class Raw:
    """Something that is no page of the console's own: its bytes, their kind, and the policy for it."""

    content: bytes
    kind: str
    policy: str
    kept: bool = False  # by the browser, for good


def _whole(written: str, digits: int) -> int | None:
    return int(written) if written.isascii() and written.isdigit() and len(written) <= digits else None
