"""The ledger's tables. A change here needs a migration beside it; a test compares the two."""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Dialect,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
    UniqueConstraint,
    false,
    text,
)
from sqlalchemy.types import TypeDecorator

__all__ = [
    "REVISION",
    "ROW_ID",
    "UtcTime",
    "answer",
    "audit_entry",
    "audit_head",
    "buffer",
    "buffer_row",
    "command",
    "cycle",
    "description",
    "drift_report",
    "erasure",
    "example",
    "feedback",
    "feedback_history",
    "job",
    "job_run",
    "journal_entry",
    "learnt",
    "learnt_base",
    "lease",
    "metadata",
    "model",
    "model_state",
    "notice",
    "route",
    "tally",
    "tombstone",
    "tombstone_salt",
    "version",
]

REVISION = "0010"


class UtcTime(TypeDecorator[datetime]):
    """An aware UTC time: `timestamptz` on PostgreSQL, sortable ISO text on SQLite."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Refuse a naive time, because SQLite would store it as if it were UTC."""
        if value is None:
            return None
        if value.tzinfo is None:
            msg = f"time {value.isoformat()} has no time zone; give an aware time"
            raise ValueError(msg)
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Give back the zone that SQLite does not keep."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

ROW_ID = BigInteger().with_variant(Integer, "sqlite")  # only INTEGER PRIMARY KEY counts up by itself on SQLite


def _model_key(**options: Any) -> Column[str]:
    return Column("model", String, ForeignKey("model.name"), nullable=False, **options)


model = Table(
    "model",
    metadata,
    Column("name", String, primary_key=True),
    Column("settings", JSON, nullable=False),
    Column("last_version", Integer, nullable=False, server_default="0"),
    Column("created_at", UtcTime, nullable=False),
)

version = Table(
    "version",
    metadata,
    _model_key(primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("state", String, nullable=False),
    Column("parent", Integer),
    Column("cycle_id", ROW_ID),
    Column("learner", String),
    Column("card", JSON, nullable=False, server_default="{}"),  # `rows.version_card`
    Column("metrics", JSON, nullable=False),
    Column("lineage", JSON, nullable=False),
    Column("bundle_sha256", String),
    Column("created_at", UtcTime, nullable=False),
    Column("published_at", UtcTime),
    Column("state_at", UtcTime, nullable=False),
    Index("ix_version_parent", "model", "parent", "version"),
)

route = Table(
    "route",
    metadata,
    _model_key(primary_key=True),
    Column("epoch", BigInteger, nullable=False),
    Column("champion", Integer, nullable=False),
    Column("previous", Integer),
    Column("challenger", Integer),
    Column("share", Float, nullable=False),
    Column("resident", JSON, nullable=False),
    Column("set_at", UtcTime, nullable=False),
)

feedback = Table(
    "feedback",
    metadata,
    Column("id", ROW_ID, primary_key=True),
    _model_key(),
    Column("prediction_id", String, nullable=False),
    Column("target", String, nullable=False),
    Column("at", UtcTime, nullable=False),
    Column("received_at", UtcTime, nullable=False),
    Column("origin", String, nullable=False),
    Column("key", String),
    Column("revision", Integer, nullable=False),
    Column("joined_revision", Integer, nullable=False, server_default="0"),
    Column("outcome", String),
    Column("waits_until", UtcTime, nullable=False, server_default="1970-01-01 00:00:00.000000"),
    Column("attributes", JSON(none_as_null=True)),
    UniqueConstraint("model", "prediction_id"),
    Index("ix_feedback_key", "model", "key"),
    Index("ix_feedback_model", "model", "id"),
    Index("ix_feedback_received", "model", "received_at", "id"),
    sqlite_autoincrement=True,
)
Index(
    "ix_feedback_pending",
    feedback.c.model,
    feedback.c.waits_until,
    feedback.c.id,
    postgresql_where=text("joined_revision < revision"),
    sqlite_where=text("joined_revision < revision"),
)

feedback_history = Table(
    "feedback_history",
    metadata,
    Column("id", ROW_ID, primary_key=True),
    _model_key(),
    Column("prediction_id", String, nullable=False),
    Column("target", String, nullable=False),
    Column("at", UtcTime, nullable=False),
    Column("received_at", UtcTime, nullable=False),
    Column("origin", String, nullable=False),
    Column("superseded_at", UtcTime),
    UniqueConstraint(
        "model",
        "prediction_id",
        "target",
        "at",
        name="uq_feedback_history_model_prediction_id_label_at",  # SQLite cannot rename it without copying the table
    ),
)

example = Table(
    "example",
    metadata,
    Column("id", ROW_ID, primary_key=True),
    _model_key(),
    Column("input", Text, nullable=False),
    Column("input_hash", String, nullable=False),
    Column("target", String, nullable=False),
    Column("at", UtcTime, nullable=False),
    Column("origin", String, nullable=False),
    Column("key", String),
    Column("prediction_id", String),
    Column("split", String, nullable=False),
    Column("added_at", UtcTime, nullable=False),
    Column("superseded_at", UtcTime),
    Column("redacted", Boolean, nullable=False, server_default=false()),
    Column("attributes", JSON(none_as_null=True)),
    Index("ix_example_key", "model", "key"),
    Index("ix_example_prediction", "model", "prediction_id"),
    Index("ix_example_target", "model", "target"),
    Index("ix_example_model", "model", "id"),
    sqlite_autoincrement=True,  # an id is never given twice, so `since_id` cannot skip a row
)
Index(
    "uq_example_current",
    example.c.model,
    example.c.input_hash,
    unique=True,
    postgresql_where=text("superseded_at IS NULL"),
    sqlite_where=text("superseded_at IS NULL"),
)

learnt = Table(
    "learnt",
    metadata,
    Column("example_id", ROW_ID, ForeignKey("example.id", ondelete="CASCADE"), nullable=False),
    Column("version", Integer, nullable=False),
    PrimaryKeyConstraint("example_id", "version"),
)

learnt_base = Table(  # a version has learnt all that its base had
    "learnt_base",
    metadata,
    _model_key(primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("base", Integer, nullable=False),
)

tally = Table(
    "tally",
    metadata,
    _model_key(primary_key=True),
    Column("name", String, primary_key=True),
    Column("part", String, primary_key=True),
    Column("rows", BigInteger, nullable=False),
)

buffer = Table(
    "buffer",
    metadata,
    _model_key(primary_key=True),
    Column("kind", String, nullable=False),
    Column("capacity", BigInteger, nullable=False),
    Column("byte_budget", BigInteger),
    Column("seen", BigInteger, nullable=False),
    Column("counters", JSON, nullable=False),
    Column("rng", JSON, nullable=False),
    Column("saved_at", UtcTime, nullable=False),
)

buffer_row = Table(
    "buffer_row",
    metadata,
    Column("model", String, ForeignKey("buffer.model", ondelete="CASCADE"), nullable=False),
    Column("position", Integer, nullable=False),
    Column("digest", String, nullable=False),
    Column("input", Text, nullable=False),
    Column("target", String, nullable=False),
    Column("at", UtcTime, nullable=False),
    Column("origin", String, nullable=False),
    Column("key", String),
    Column("prediction_id", String),
    Column("extra", JSON),
    Column("redacted", Boolean, nullable=False, server_default=false()),
    PrimaryKeyConstraint("model", "position"),
)

erasure = Table(
    "erasure",
    metadata,
    _model_key(primary_key=True),
    Column("token", String, nullable=False),
    Column("begun_at", UtcTime, nullable=False),
    Column("seen_at", UtcTime, nullable=False),
)

tombstone = Table(
    "tombstone",
    metadata,
    Column("scope", String, primary_key=True),  # a model's name, or * for every model, also one that comes later
    Column("digest", String, primary_key=True),
    Column("erased_at", UtcTime, nullable=False),
)

tombstone_salt = Table(
    "tombstone_salt",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("salt", String, nullable=False),
)

cycle = Table(
    "cycle",
    metadata,
    Column("id", ROW_ID, primary_key=True),
    _model_key(),
    Column("reason", String, nullable=False),
    Column("state", String, nullable=False),
    Column("payload", JSON, nullable=False),
    Column("opened_at", UtcTime, nullable=False),
    Column("saved_at", UtcTime, nullable=False),
    Column("closed_at", UtcTime),
    Column("outcome", String),
    Column("note", Text),
    Index("ix_cycle_model", "model", "id"),
    sqlite_autoincrement=True,
)
Index(
    "uq_cycle_active",
    cycle.c.model,
    unique=True,
    postgresql_where=text("closed_at IS NULL"),
    sqlite_where=text("closed_at IS NULL"),
)

journal_entry = Table(
    "journal_entry",
    metadata,
    Column("id", ROW_ID, primary_key=True),
    Column("cycle_id", ROW_ID, ForeignKey("cycle.id"), nullable=False),
    _model_key(),
    Column("step", String, nullable=False),
    Column("phase", String, nullable=False),
    Column("payload", JSON, nullable=False),
    Column("at", UtcTime, nullable=False),
    Index("ix_journal_entry_cycle", "cycle_id", "id"),
    Index("ix_journal_entry_model", "model", "id"),
    sqlite_autoincrement=True,
)

drift_report = Table(
    "drift_report",
    metadata,
    Column("id", ROW_ID, primary_key=True),
    _model_key(),
    Column("version", Integer, nullable=False),
    Column("at", UtcTime, nullable=False),
    Column("window_from", UtcTime),
    Column("window_to", UtcTime),
    Column("rows", Integer, nullable=False),
    Column("state", String, nullable=False),
    Column("payload", JSON, nullable=False),
    Column("path", String),
    Column("after_id", String),  # the predictions that the payload names, for an erasure
    Column("counting_id", String),
    Index("ix_drift_report_model", "model", "id"),
    Index("ix_drift_report_after_id", "after_id"),
    Index("ix_drift_report_counting_id", "counting_id"),
)

model_state = Table(
    "model_state",
    metadata,
    _model_key(primary_key=True),
    Column("name", String, primary_key=True),
    Column("value", JSON, nullable=False),
    Column("put_at", UtcTime, nullable=False),
)

description = Table(
    "description",
    metadata,
    _model_key(primary_key=True),
    Column("label", String, primary_key=True),
    Column("text", Text, nullable=False),
    Column("actor", String, nullable=False),
    Column("at", UtcTime, nullable=False),
)

audit_entry = Table(
    "audit_entry",
    metadata,
    Column("seq", ROW_ID, primary_key=True, autoincrement=False),
    Column("at", String, nullable=False),  # ISO text: the hash covers exactly what is stored
    Column("actor", String, nullable=False),
    Column("action", String, nullable=False),
    Column("model", String),
    Column("detail", Text, nullable=False),  # canonical JSON text, for the same reason
    Column("previous", String, nullable=False),
    Column("hash", String, nullable=False),
    Index("ix_audit_entry_model", "model", "seq"),
)

audit_head = Table(
    "audit_head",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("seq", ROW_ID, nullable=False),
    Column("hash", String, nullable=False),
)

command = Table(
    "command",
    metadata,
    Column("id", ROW_ID, primary_key=True),
    _model_key(),
    Column("kind", String, nullable=False),
    Column("args", JSON, nullable=False),
    Column("actor", String, nullable=False),
    Column("requested_at", UtcTime, nullable=False),
    Column("taken_at", UtcTime),
    Column("finished_at", UtcTime),
    Column("outcome", Text),
    Index("ix_command_model", "model", "id"),
    sqlite_autoincrement=True,
)
Index(
    "ix_command_open",
    command.c.model,
    command.c.id,
    postgresql_where=text("finished_at IS NULL"),
    sqlite_where=text("finished_at IS NULL"),
)

answer = Table(
    "answer",
    metadata,
    Column("key", String, primary_key=True),
    Column("request", String, nullable=False),
    Column("holder", String, nullable=False),
    Column("claimed_at", UtcTime, nullable=False),
    Column("status", Integer),
    Column("headers", JSON),
    Column("body", Text),
    Index("ix_answer_claimed_at", "claimed_at"),
)

lease = Table(
    "lease",
    metadata,
    Column("name", String, primary_key=True),
    Column("epoch", BigInteger, nullable=False),
    Column("holder", String, nullable=False),
    Column("acquired_at", UtcTime, nullable=False),
)

job = Table(
    "job",
    metadata,
    Column("name", String, primary_key=True),
    Column("trigger", JSON, nullable=False),
    Column("paused", Boolean, nullable=False),
    Column("next_due", UtcTime, nullable=False),
    Column("requested_at", UtcTime),
)

job_run = Table(
    "job_run",
    metadata,
    Column("id", ROW_ID, primary_key=True),
    Column("job", String, ForeignKey("job.name"), nullable=False),
    Column("due", UtcTime, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("started_at", UtcTime, nullable=False),
    Column("finished_at", UtcTime),
    Column("outcome", String),
    Column("note", Text),
    UniqueConstraint("job", "due"),
    Index("ix_job_run_finished", "finished_at"),
    Index("ix_job_run_job", "job", "id"),
    sqlite_autoincrement=True,
)

notice = Table(
    "notice",
    metadata,
    _model_key(),
    Column("alert", String, nullable=False),
    Column("episode", String, nullable=False),
    Column("channel", String, nullable=False),
    Column("claimed_at", UtcTime, nullable=False),
    Column("sent_at", UtcTime),
    Column("attempts", Integer, nullable=False),
    Column("error", Text),
    PrimaryKeyConstraint("model", "alert", "episode", "channel"),
    Index("ix_notice_claimed", "model", "claimed_at"),
)
