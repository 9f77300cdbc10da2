"""Scopes of tokens"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("token", schema=None) as batch_op:
        batch_op.add_column(sa.Column("scopes", sa.Text(), server_default="", nullable=False))
    op.execute("UPDATE token SET scopes = 'judging' WHERE role = 'judge'")
    op.execute("UPDATE token SET scopes = 'audit course judging people' WHERE role = 'admin'")


def downgrade() -> None:
    with op.batch_alter_table("token", schema=None) as batch_op:
        batch_op.drop_column("scopes")
