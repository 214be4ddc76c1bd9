"""Fixtures with identifiers of their own, through Kafka, with source `seed`.

- `plan` is the scenario file; `fixtures` generates the records and the labels of the orders, from the seed alone;
- `patterns` is what makes an order suspicious or fraudulent; `run` sends them.

A second run sends the same business keys and event times under new event ids and a later `produced_ts`: newer versions,
which replace the older ones wherever the latest is derived (ADR 0009).
"""
