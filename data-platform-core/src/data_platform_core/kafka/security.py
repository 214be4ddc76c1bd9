"""Authentication options of our clients, in librdkafka's and in Spark's syntax.

No options are added for a plaintext cluster, such as the embedded stack's on loopback.
"""

from __future__ import annotations

from data_platform_core.errors import ConfigurationError
from data_platform_core.settings import ENV_PREFIX, KafkaSettings

_LOGIN_MODULE = "org.apache.kafka.common.security.scram.ScramLoginModule"


def librdkafka_security(settings: KafkaSettings) -> dict[str, str]:
    """librdkafka's options. Raises ConfigurationError naming the setting that is missing."""
    if not settings.secured:
        return {}
    _require_all(settings)
    return {
        "security.protocol": settings.security_protocol,
        "sasl.mechanism": settings.sasl_mechanism,
        "sasl.username": settings.username,
        "sasl.password": settings.password.get_secret_value(),
        "ssl.ca.location": settings.ca_file,
    }


def spark_connection(settings: KafkaSettings) -> dict[str, str]:
    """Options of Spark's Kafka source and sink. Raises ConfigurationError naming the setting that is missing."""
    servers = {"kafka.bootstrap.servers": settings.bootstrap_servers}
    if not settings.secured:
        return servers
    _require_all(settings)
    user, password = _quoted(settings.username), _quoted(settings.password.get_secret_value())
    return servers | {
        "kafka.security.protocol": settings.security_protocol,
        "kafka.sasl.mechanism": settings.sasl_mechanism,
        # Kafka logs its clients' configuration, but hides this value.
        "kafka.sasl.jaas.config": f"{_LOGIN_MODULE} required username={user} password={password};",
        "kafka.ssl.truststore.type": "PEM",
        "kafka.ssl.truststore.location": settings.ca_file,
    }


def _require_all(settings: KafkaSettings) -> None:
    for name, value in (
        ("sasl_mechanism", settings.sasl_mechanism),
        ("username", settings.username),
        ("password", settings.password.get_secret_value()),
        ("ca_file", settings.ca_file),
    ):
        if not value:
            raise ConfigurationError(
                f"setting {ENV_PREFIX}KAFKA__{name.upper()} is empty, but Kafka requires {settings.security_protocol}; "
                "set it in the environment or in the service's file of secrets"
            )


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
