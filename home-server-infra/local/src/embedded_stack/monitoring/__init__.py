"""Prometheus, Alertmanager and exporters of the embedded stack; rules live in home-server-infra/monitoring."""
