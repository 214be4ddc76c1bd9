"""Alembic's entry: runs the revisions on the connection that `warehouse.schema` lends, inside its transaction."""

from alembic import context

context.configure(
    connection=context.config.attributes["connection"],
    version_table_schema=context.config.attributes["version_schema"],
    transactional_ddl=True,
)
context.run_migrations()
