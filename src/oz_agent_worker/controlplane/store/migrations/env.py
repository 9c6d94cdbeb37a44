"""The environment of alembic: applies migrations on the connection that the engine passes in."""

from alembic import context

from oz_agent_worker.controlplane.store.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    # True of SQLite too, where the engine issues BEGIN itself: a migration that is
    # killed half-way leaves nothing behind.
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
