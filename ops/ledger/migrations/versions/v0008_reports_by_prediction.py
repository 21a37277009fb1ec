"""The two prediction ids that a drift report names have columns of their own, so that an erasure finds them at once."""

import sqlalchemy as sa
from alembic import op


revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_NAMES = {"after_id": ("after_id",), "counting_id": ("counting_from", "id")}


def upgrade() -> None:
    for name in _NAMES:
        op.add_column("drift_report", sa.Column(name, sa.String(), nullable=True))
    payload = sa.column("payload", sa.JSON)
    table = sa.table("drift_report", payload, *(sa.column(name, sa.String) for name in _NAMES))
    op.execute(table.update().values({name: payload[path].as_string() for name, path in _NAMES.items()}))
    for name in _NAMES:
        op.create_index(f"ix_drift_report_{name}", "drift_report", [name], unique=False)


def downgrade() -> None:
    for name in _NAMES:
        op.drop_index(f"ix_drift_report_{name}", "drift_report")
        op.drop_column("drift_report", name)
