"""The CRM data platform: Kafka to Delta Lake to PostgreSQL, with every record accounted for."""
