"""Grafana dashboards as code: one module per dashboard, written to `../../dashboards/*.json` by `make generate`."""
