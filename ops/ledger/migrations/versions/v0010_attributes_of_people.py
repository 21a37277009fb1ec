"""Rows and labels may say whose they are; what they say is kept in the row and goes with it."""

import sqlalchemy as sa
from alembic import op


revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for table in ("example", "feedback"):
        op.add_column(table, sa.Column("attributes", sa.JSON(none_as_null=True), nullable=True))


def downgrade() -> None:
    for table in ("example", "feedback"):
        op.drop_column(table, "attributes")
