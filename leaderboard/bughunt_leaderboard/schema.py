"""The tables. The log is append-only; queue and verdicts are kept so that each verdict is given once."""

from sqlalchemy import (
    BigInteger,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

METADATA = MetaData(
    naming_convention={
        "ix": "ix_%(column_0_label)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)
ID = BigInteger().with_variant(Integer, "sqlite")  # SQLite counts up only what it calls INTEGER

EVENTS = Table(
    "event",
    METADATA,
    Column("seq", ID, primary_key=True, autoincrement=False),
    Column("at", BigInteger, nullable=False),
    Column("kind", String(16), nullable=False),
    Column("payload", Text, nullable=False),
)
AUDIT = Table(
    "audit",
    METADATA,
    Column("seq", ID, primary_key=True, autoincrement=False),
    Column("at", BigInteger, nullable=False),
    Column("who", Text, nullable=False),
    Column("what", Text, nullable=False),
    Column("previous", String(64), nullable=False),  # hash of the entry before, so that none can be left out
    Column("hash", String(64), nullable=False),
)
TOKENS = Table(
    "token",
    METADATA,
    Column("id", ID, primary_key=True),
    Column("hash", String(64), nullable=False, unique=True),
    Column("role", String(16), nullable=False),  # invite, captain, member, observer, judge, admin
    Column("team", ID),
    Column("name", Text, nullable=False, server_default=""),
    Column("division", Text, nullable=False, server_default=""),
    Column("uses", Integer, nullable=False, server_default="0"),  # that are left, of an invite
    Column("expires", BigInteger),
    Column("revoked", BigInteger),
    Column("scopes", Text, nullable=False, server_default=""),  # of an official's, with blanks between
)
SUBMISSIONS = Table(
    "submission",
    METADATA,
    Column("id", ID, primary_key=True),
    Column("team", ID, nullable=False),
    Column("challenge", String(32), nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("late", Integer, nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("files", LargeBinary, nullable=False),  # compressed JSON: path -> text
    Column("key", String(80), nullable=False),  # the sender's own, so that sending twice is sending once
    UniqueConstraint("team", "key"),
    Index(None, "team", "challenge"),
    Index("ix_submission_same", "challenge", "sha256"),
)
JOBS = Table(
    "job",
    METADATA,
    Column("id", ID, primary_key=True),
    Column("submission", ID, ForeignKey("submission.id"), nullable=False),
    Column("generation", Integer, nullable=False),
    Column("team", ID, nullable=False),
    Column("state", String(8), nullable=False),  # waiting, leased, done, failed
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("fence", Integer, nullable=False, server_default="0"),
    Column("owner", Text),
    Column("until", BigInteger),
    Column("progress", Text),
    UniqueConstraint("submission", "generation"),
    Index(None, "state", "until"),
)
VERDICTS = Table(
    "verdict",
    METADATA,
    Column("job", ID, ForeignKey("job.id"), primary_key=True),
    Column("fence", Integer, nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("outcome", String(12), nullable=False),
    Column("detail", LargeBinary, nullable=False),  # compressed JSON: all that the judge said
)
