"""Prometheus, Alertmanager and exporters of the embedded stack; rules are in home-server-infra/monitoring."""
