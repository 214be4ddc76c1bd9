"""Kafka: topics, schema registry, wire format, dead letters. No Spark here."""
