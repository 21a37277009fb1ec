"""The ledger's tables of accounts, in the metadata of all its tables."""

from sqlalchemy import Boolean, Column, ForeignKey, PrimaryKeyConstraint, String, Table, false

from perennial.ops.ledger.schema import ROW_ID, UtcTime, metadata

__all__ = ["access_token", "account", "account_role"]

account = Table(
    "account",
    metadata,
    Column("name", String, primary_key=True),
    Column("blocked", Boolean, nullable=False, server_default=false()),
    Column("password", String),  # a slow hash
    Column("subject", String, unique=True),
    Column("seal", String, nullable=False),
    Column("created_at", UtcTime, nullable=False),
)

account_role = Table(
    "account_role",
    metadata,
    Column("account", String, ForeignKey("account.name"), nullable=False),
    Column("model", String, nullable=False),  # or * for every model, also one that comes later
    Column("role", String, nullable=False),
    PrimaryKeyConstraint("account", "model"),
)

access_token = Table(
    "access_token",
    metadata,
    Column("id", ROW_ID, primary_key=True),
    Column("account", String, ForeignKey("account.name"), nullable=False),
    Column("label", String, nullable=False),
    Column("digest", String, nullable=False, unique=True),
    Column("created_at", UtcTime, nullable=False),
    Column("ends_at", UtcTime),
    sqlite_autoincrement=True,
)
