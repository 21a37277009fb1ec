"""Rows are counted as they come, labels wait until they are to be looked for, and look-ups have their indexes.

What a version learnt is kept once, also for those that go on from it.
"""

import sqlalchemy as sa
from alembic import op


revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_AT_ONCE = "1970-01-01 00:00:00.000000"
_PENDING = sa.text("joined_revision < revision")
_OPEN = sa.text("finished_at IS NULL")
_STRUCTURED = ("ranking",)  # tasks whose targets are no labels: too many to be counted one by one
_INDEXES = (
    ("ix_feedback_model", "feedback", ["model", "id"], None),
    ("ix_feedback_received", "feedback", ["model", "received_at", "id"], None),
    ("ix_example_model", "example", ["model", "id"], None),
    ("ix_cycle_model", "cycle", ["model", "id"], None),
    ("ix_version_parent", "version", ["model", "parent", "version"], None),
    ("ix_audit_entry_model", "audit_entry", ["model", "seq"], None),
    ("ix_command_open", "command", ["model", "id"], _OPEN),
    ("ix_job_run_finished", "job_run", ["finished_at"], None),
    ("ix_notice_claimed", "notice", ["model", "claimed_at"], None),
)
_COUNTS = (
    "SELECT model, 'feedback', '', count(*) FROM feedback GROUP BY model",
    "SELECT model, 'waiting', '', count(*) FROM feedback WHERE joined_revision < revision GROUP BY model",
    "SELECT model, 'superseded', '', count(*) FROM example WHERE superseded_at IS NOT NULL GROUP BY model",
    "SELECT e.model, 'learnt', CAST(l.version AS VARCHAR), count(*) FROM learnt l JOIN example e ON e.id = l.example_id"
    " WHERE e.superseded_at IS NULL AND e.split = 'train' GROUP BY e.model, l.version",
)
_INHERITED = (
    "INSERT INTO learnt (example_id, version) SELECT l.example_id, CAST(:version AS INTEGER) FROM learnt l "
    "JOIN example e ON e.id = l.example_id WHERE e.model = :model AND l.version = :base AND NOT EXISTS "
    "(SELECT 1 FROM learnt own WHERE own.example_id = l.example_id AND own.version = :version)"
)
_BY_TARGET = (
    "SELECT model, split, {target}, count(*) FROM example WHERE superseded_at IS NULL AND model = :model "
    "GROUP BY model, split{grouped}"
)


def upgrade() -> None:
    op.create_table(
        "tally",
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("part", sa.String(), nullable=False),
        sa.Column("rows", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["model"], ["model.name"], name=op.f("fk_tally_model")),
        sa.PrimaryKeyConstraint("model", "name", "part", name=op.f("pk_tally")),
    )
    op.create_table(
        "learnt_base",
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("version", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("base", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["model"], ["model.name"], name=op.f("fk_learnt_base_model")),
        sa.PrimaryKeyConstraint("model", "version", name=op.f("pk_learnt_base")),
    )
    op.add_column(
        "feedback", sa.Column("waits_until", sa.DateTime(timezone=True), server_default=_AT_ONCE, nullable=False)
    )
    op.drop_index("ix_feedback_pending", "feedback")
    _create("ix_feedback_pending", "feedback", ["model", "waits_until", "id"], _PENDING)
    op.drop_index("ix_job_run_open", "job_run")
    for index in _INDEXES:
        _create(*index)
    count_rows(op.get_bind())


def downgrade() -> None:
    write_out_inherited(op.get_bind())
    for name, table, _, _ in reversed(_INDEXES):
        op.drop_index(name, table)
    op.create_index("ix_job_run_open", "job_run", ["job", "finished_at"], unique=False)
    op.drop_index("ix_feedback_pending", "feedback")
    _create("ix_feedback_pending", "feedback", ["model", "id"], _PENDING)
    op.drop_column("feedback", "waits_until")
    op.drop_table("learnt_base")
    op.drop_table("tally")


def count_rows(connection: sa.Connection) -> None:
    """Fill the empty counters from the rows."""
    into = "INSERT INTO tally (model, name, part, rows) "
    for statement in _COUNTS:
        connection.execute(sa.text(into + statement))
    model = sa.table("model", sa.column("name", sa.String), sa.column("settings", sa.JSON))
    for name, settings in connection.execute(sa.select(model.c.name, model.c.settings)).all():
        whole = (settings or {}).get("task") in _STRUCTURED
        filled = _BY_TARGET.format(target="''" if whole else "target", grouped="" if whole else ", target")
        connection.execute(sa.text(into + filled), {"model": name})


def write_out_inherited(connection: sa.Connection) -> None:
    """Keep with each version what it had learnt with the one that it went on from; no base has a later number."""
    bases = sa.text("SELECT model, version, base FROM learnt_base ORDER BY version")
    for row in connection.execute(bases).mappings().all():
        connection.execute(sa.text(_INHERITED), dict(row))


def _create(name: str, table: str, columns: list[str], where: sa.TextClause | None) -> None:
    op.create_index(name, table, columns, unique=False, postgresql_where=where, sqlite_where=where)
