"""Bring a database to the present tables; safe to run at every start."""

from pathlib import Path

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext

from bughunt_leaderboard.schema import METADATA
from bughunt_leaderboard.store import Store


def settings() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")))
    return config


def migrate(store: Store) -> None:
    """Run what is missing; one starter at a time."""
    config = settings()
    with store.writing() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def differences(store: Store) -> list[object]:
    """Where the tables of a database are not those of this version."""
    with store.reading() as connection:
        context = MigrationContext.configure(connection)
        return list(compare_metadata(context, METADATA))
