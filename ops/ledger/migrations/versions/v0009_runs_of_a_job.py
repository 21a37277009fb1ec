"""The runs of a job are found by an index, so that a job's newest run costs the same however many runs there are."""

from alembic import op


revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("ix_job_run_job", "job_run", ["job", "id"], unique=False)


def downgrade() -> None:
    op.drop_index("ix_job_run_job", "job_run")
