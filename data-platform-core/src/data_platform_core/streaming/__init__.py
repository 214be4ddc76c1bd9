"""Kafka to Delta: one query per entity writes bronze, silver and the dead letters, each record exactly once."""
