"""The load generator: visitors, orders, catalogue and customers, sent to Kafka with a ledger of every record.

Modules, from the inside out:

- `model` generates the n-th send of a run from the seed alone; `entities/` has the code of each
  contract; `distributions` the few random shapes they share.
- `load/` decides when the n-th send is due, from the scenario's curve alone.
- `encoding` turns fields into the bytes of the contract's schema; `sinks/kafka` hands them to Kafka.
- `ledger` records what was sent and what was acknowledged; `run` connects these parts.

Content and schedule are separate, so the same seed sends the same records regardless of the clock.
"""
