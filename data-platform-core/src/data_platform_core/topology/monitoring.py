"""What watches an environment: the processes' own metrics, Prometheus, Alertmanager, exporters, and where alerts go."""

from __future__ import annotations

from pydantic import Field

from data_platform_core.topology.endpoints import Address, Endpoint, Frozen


class Metrics(Frozen):
    """Where processes serve their own metrics; a key is the service of the matrix of accounts that they run as."""

    generator: Endpoint
    streaming: Endpoint

    def of(self, service: str) -> Endpoint | None:
        """The endpoint of the processes that run as `service`; None for one that serves none."""
        return getattr(self, service) if service in type(self).model_fields else None


class Scrape(Frozen):
    """Seconds between two scrapes: of generator and streaming, whose lag people watch, and of the servers."""

    pipeline_seconds: float = Field(ge=1)
    servers_seconds: float = Field(ge=1)


class Retention(Frozen):
    """Prometheus drops what is older than `days`, and the oldest when it holds more than `size_mb`."""

    days: int = Field(ge=1)
    size_mb: int = Field(ge=64)


class Mail(Address):
    """The SMTP server that takes alerts' mail, and from whom to whom. `tls`: whether it must speak STARTTLS."""

    sender: str
    recipient: str
    user: str = ""
    tls: bool = True


class AlertSink(Endpoint):
    """Where alerts go while nobody has given a real receiver: `port` takes webhooks, `smtp_port` mail."""

    smtp_port: int = Field(ge=1, le=65535)

    @property
    def url(self) -> str:
        return f"http://{self.address}"


class Monitoring(Frozen):
    """Prometheus, Alertmanager and exporters. `mail` None: mail goes to the sink."""

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
