"""Rows have an input and a target, whatever their task calls them; a version has a card.

The columns of rows are renamed in place: no row is read or written, however many there are.
"""

from collections.abc import Callable
from typing import Any

import sqlalchemy as sa
from alembic import op


revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_RENAMED = (
    ("example", "text", "input"),
    ("example", "text_hash", "input_hash"),
    ("example", "label", "target"),
    ("buffer_row", "text", "input"),
    ("buffer_row", "label", "target"),
    ("feedback", "label", "target"),
    ("feedback_history", "label", "target"),
)
_version = sa.table(
    "version",
    sa.column("model", sa.String),
    sa.column("version", sa.Integer),
    sa.column("labels", sa.JSON),
    sa.column("encoder_fingerprint", sa.String),
    sa.column("card", sa.JSON),
)


def upgrade() -> None:
    for table, old, new in _RENAMED:
        op.execute(f"ALTER TABLE {table} RENAME COLUMN {old} TO {new}")
    _rename_index("ix_example_label", "ix_example_target", ["model", "target"])
    op.add_column("version", sa.Column("card", sa.JSON(), server_default="{}", nullable=False))
    _each_version(lambda row: {"card": _card(row)})
    op.drop_column("version", "labels")
    op.drop_column("version", "encoder_fingerprint")


def downgrade() -> None:
    op.add_column("version", sa.Column("encoder_fingerprint", sa.String()))
    op.add_column("version", sa.Column("labels", sa.JSON(), server_default="[]", nullable=False))
    _each_version(
        lambda row: {
            "labels": row.card.get("labels", []),
            "encoder_fingerprint": row.card.get("encoder_fingerprint"),
        }
    )
    op.drop_column("version", "card")
    _rename_index("ix_example_target", "ix_example_label", ["model", "target"])
    for table, old, new in reversed(_RENAMED):
        op.execute(f"ALTER TABLE {table} RENAME COLUMN {new} TO {old}")


def _card(row: Any) -> dict[str, Any]:
    card = {"labels": row.labels or []}
    return card if row.encoder_fingerprint is None else card | {"encoder_fingerprint": row.encoder_fingerprint}


def _each_version(values: Callable[[Any], dict[str, Any]]) -> None:
    connection = op.get_bind()
    known = {column["name"] for column in sa.inspect(connection).get_columns("version")}
    read = sa.select(*(column for column in _version.c if column.name in known))
    for row in connection.execute(read).all():
        place = (_version.c.model == row.model) & (_version.c.version == row.version)
        connection.execute(_version.update().where(place).values(values(row)))


def _rename_index(old: str, new: str, columns: list[str]) -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.execute(f"ALTER INDEX {old} RENAME TO {new}")
    else:
        op.drop_index(old, "example")
        op.create_index(new, "example", columns, unique=False)
