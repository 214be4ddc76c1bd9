"""The CRM data platform: Kafka to Delta Lake to PostgreSQL, with every record accounted for."""

#: Of all three distributions.
__version__ = "0.1.0"
