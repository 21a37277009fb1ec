"""Classes described in words, so that they can be answered before they have labelled rows."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import delete, select

from perennial.continual.errors import NotFound
from perennial.continual.learning.descriptions import anchor_texts
from perennial.ops.ledger import schema
from perennial.ops.ledger.audit import AuditStore

__all__ = ["ClassDescription", "DescriptionStore"]

_TABLE = schema.description


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassDescription:
    """One class's sentence, and who gave it when."""

    label: str
    text: str
    actor: str
    at: datetime


class DescriptionStore(AuditStore):
    """The part of the ledger that keeps what classes mean. A class has one sentence; a later one replaces it."""

    def describe_classes(self, model: str, descriptions: Mapping[str, str], actor: str) -> tuple[str, ...]:
        """Keep sentences by class and return the classes whose sentence is new or changed, sorted.

        All or none; each change is one audit entry. A retry changes nothing.

        Raises:
            ConfigurationError: a class has an empty name or sentence.
            NotFound: the model is not registered.
        """
        anchor_texts(descriptions)
        with self._write() as connection:
            self._lock_model(connection, model)
            stored = select(_TABLE.c.label, _TABLE.c.text).where(_TABLE.c.model == model)
            known = {row.label: row.text for row in connection.execute(stored)}
            changed = sorted(label for label, text in descriptions.items() if known.get(label) != text)
            for label in changed:
                facts = {"text": descriptions[label], "actor": actor, "at": self._clock()}
                row = self._insert(_TABLE).values(model=model, label=label, **facts)
                connection.execute(row.on_conflict_do_update(index_elements=["model", "label"], set_=facts))
                detail = {"label": label, "text": descriptions[label], "before": known.get(label)}
                self._append_audit(connection, actor=actor, action="class.described", model=model, detail=detail)
        return tuple(changed)

    def forget_description(self, model: str, label: str, actor: str) -> None:
        """Drop a class's sentence; the next retraining knows the class by its rows alone, or not at all.

        Raises:
            NotFound: the class has none.
        """
        with self._write() as connection:
            self._lock_model(connection, model)
            gone = delete(_TABLE).where(_TABLE.c.model == model, _TABLE.c.label == label).returning(_TABLE.c.text)
            text = connection.scalar(gone)
            if text is None:
                known = select(_TABLE.c.label).where(_TABLE.c.model == model).order_by(_TABLE.c.label)
                names = ", ".join(connection.scalars(known)) or "none"
                raise NotFound(f"class {label!r} of {model} has no description; described are {names}")
            detail = {"label": label, "before": text}
            self._append_audit(connection, actor=actor, action="class.description_dropped", model=model, detail=detail)

    def descriptions(self, model: str) -> tuple[ClassDescription, ...]:
        """Return the described classes by name."""
        columns = (_TABLE.c.label, _TABLE.c.text, _TABLE.c.actor, _TABLE.c.at)
        statement = select(*columns).where(_TABLE.c.model == model).order_by(_TABLE.c.label)
        with self._read() as connection:
            return tuple(ClassDescription(**row) for row in connection.execute(statement).mappings())
