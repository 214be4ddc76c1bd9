"""The warehouse: PostgreSQL's schemas, tables and grants, connections to it, and dbt on top of it."""
