"""An index of files, so that the same ones from two teams are found at once"""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("ix_submission_same", "submission", ["challenge", "sha256"])


def downgrade() -> None:
    op.drop_index("ix_submission_same", "submission")
