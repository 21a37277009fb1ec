"""What was erased is remembered by its digest, and a row tells whether personal data was taken out of it."""

import secrets

import sqlalchemy as sa
from alembic import op


revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_PLACEHOLDERS = ("[url]", "[email]", "[iban]", "[card]", "[phone]", "[number]")


def upgrade() -> None:
    for name in ("example", "buffer_row"):
        op.add_column(name, sa.Column("redacted", sa.Boolean(), server_default=sa.false(), nullable=False))
        row = sa.table(name, sa.column("text", sa.Text), sa.column("redacted", sa.Boolean))
        redacted_already = sa.or_(*(row.c.text.contains(placeholder, autoescape=True) for placeholder in _PLACEHOLDERS))
        op.execute(row.update().where(redacted_already).values(redacted=True))  # all that can be known of rows from before
    op.create_table(
        "erasure",
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("token", sa.String(), nullable=False),
        sa.Column("begun_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["model"], ["model.name"], name=op.f("fk_erasure_model")),
        sa.PrimaryKeyConstraint("model", name=op.f("pk_erasure")),
    )
    op.create_table(
        "tombstone",
        sa.Column("scope", sa.String(), nullable=False),
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("erased_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("scope", "digest", name=op.f("pk_tombstone")),
    )
    salt = op.create_table(
        "tombstone_salt",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("salt", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tombstone_salt")),
    )
    op.bulk_insert(salt, [{"id": 1, "salt": secrets.token_hex(32)}])


def downgrade() -> None:
    for name in ("tombstone_salt", "tombstone", "erasure"):
        op.drop_table(name)
    for name in ("buffer_row", "example"):
        op.drop_column(name, "redacted")
