"""The embedded stack: Kafka, schema registry, object store and PostgreSQL as supervised processes on loopback."""
