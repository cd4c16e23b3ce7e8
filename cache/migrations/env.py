"""What Alembic executes to migrate: the revisions, in the transaction that has the database to itself."""

from __future__ import annotations

from alembic import context

from cache.migrations import CONNECTION
from cache.tables import metadata

context.configure(
    connection=context.config.attributes[CONNECTION],
    target_metadata=metadata,
    # SQLite can take a change of tables back too, since `cache.engine` begins its transactions itself.
    transactional_ddl=True,
)
context.run_migrations()
