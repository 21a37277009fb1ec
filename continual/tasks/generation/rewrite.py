"""What is asked of a rewrite: an approved reply, and the manners in which it is to be told."""

from dataclasses import dataclass
from datetime import datetime

from perennial.continual.records import Origin

__all__ = ["AcceptedEdit", "Rewrite"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rewrite:
    """An approved reply to be told in a tone, greeting somebody; without any of them it stays as it is.

    >>> Rewrite(approved="Refunds take 5 days.", tone="friendly", name="Jo").language
    ''
    """

    approved: str
    tone: str = ""
    language: str = ""  # that of the reply itself, or nothing; a guard compares no two languages
    name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AcceptedEdit:
    """A rewrite that somebody made or accepted; see `perennial.continual.task.Row`."""

    input: Rewrite
    target: str
    at: datetime
    origin: Origin = Origin.IMPORT
    key: str | None = None
    prediction_id: str | None = None
    redacted: bool = False
