"""What watches an environment: the processes' own metrics, Prometheus, Alertmanager, exporters, and where alerts go."""

from __future__ import annotations

from pydantic import Field

from data_platform_core.topology.endpoints import Address, Endpoint, Frozen


class Metrics(Frozen):
    """Metrics endpoints of processes; a key is the process's service in the matrix of accounts."""

    generator: Endpoint
    streaming: Endpoint

    def of(self, service: str) -> Endpoint | None:
        """The metrics endpoint of `service`; None if it has none."""
        return getattr(self, service) if service in type(self).model_fields else None


class Scrape(Frozen):
    """Seconds between scrapes: of generator and streaming, whose lag people watch, and of the servers."""

    pipeline_seconds: float = Field(ge=1)
    servers_seconds: float = Field(ge=1)


class Retention(Frozen):
    """Prometheus drops data older than `days`, and the oldest data above `size_mb`."""

    days: int = Field(ge=1)
    size_mb: int = Field(ge=64)


class Mail(Address):
    """The SMTP server for alerts, with sender and recipient. `tls`: whether STARTTLS is required."""

    sender: str
    recipient: str
    user: str = ""
    tls: bool = True


class AlertSink(Endpoint):
    """Receives alerts while no real receiver is configured: webhooks on `port`, mail on `smtp_port`."""

    smtp_port: int = Field(ge=1, le=65535)

    @property
    def url(self) -> str:
        return f"http://{self.address}"


class Monitoring(Frozen):
    """Prometheus, Alertmanager and exporters. With `mail` None, mail goes to the sink."""

    prometheus: Endpoint
    alertmanager: Endpoint
    node_exporter: Endpoint
    postgres_exporter: Endpoint
    alert_sink: AlertSink
    scrape: Scrape
    retention: Retention
    mail: Mail | None = None

    def require_one_bind(self) -> None:
        """Raises ValueError when the agents that Ansible's one role installs listen on addresses of several kinds."""
        agents = (self.prometheus, self.node_exporter, self.postgres_exporter)
        if len({agent.bind if agent.binds_elsewhere else None for agent in agents}) > 1:
            raise ValueError("monitoring: prometheus and its exporters must have the same bind, or none")
