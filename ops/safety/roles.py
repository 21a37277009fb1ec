"""Who asks, and what they may do: a role for every model together, or one for each."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum

__all__ = ["BY_SESSION", "CALLER", "EVERY", "LOCAL", "Caller", "Role"]

CALLER = "perennial.caller"  # in the scope of a request: who asks; None for a stranger
BY_SESSION = "perennial.by_session"  # likewise: whether a session of the console says so
EVERY = "*"  # in the place of a model: all of them, those to come included, and what belongs to none


class Role(IntEnum):
    """Each may do what those before it may."""

    VIEWER = 0
    LABELLER = 1
    OPERATOR = 2
    ADMIN = 3

    @property
    def word(self) -> str:
        """Return the role as settings, commands and pages write it."""
        return self.name.lower()


@dataclass(frozen=True, slots=True)
class Caller:
    """Somebody who is let in, by the name in the audit log, and their roles by model.

    >>> ann = Caller("ann", {"*": Role.VIEWER, "intent": Role.OPERATOR})
    >>> ann.role("intent").word, ann.role("news").word, ann.role().word
    ('operator', 'viewer', 'viewer')
    """

    name: str
    roles: Mapping[str, Role] = field(default_factory=dict)

    def role(self, model: str = EVERY) -> Role | None:
        """Return the role for a model; without one, the role for what belongs to no model. None: not even to look."""
        held = [self.roles[place] for place in (EVERY, model) if place in self.roles]
        return max(held, default=None)

    @property
    def most(self) -> Role | None:
        """Return the highest role that is held for any model."""
        return max(self.roles.values(), default=None)

    def may(self, needed: Role, model: str = EVERY) -> bool:
        """Tell whether the role for a model is enough."""
        role = self.role(model)
        return role is not None and role >= needed


LOCAL = Caller("local", {EVERY: Role.ADMIN})  # where nobody is asked who they are
