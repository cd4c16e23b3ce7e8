"""How a database of an older Trimboard becomes one of today: Alembic's revisions, run when it is opened.

A revision is written for the tables as they were, and is not changed any more once it was released.
"""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection

CONNECTION = "connection"


def configuration(connection: Connection) -> Config:
    """Alembic's configuration for a database that is open already."""
    config = Config(attributes={CONNECTION: connection})
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    return config


def migrate(connection: Connection, revision: str = "head") -> None:
    """Bring a database to a revision within the transaction of that connection."""
    command.upgrade(configuration(connection), revision)
