"""The load generator: visitors, orders, catalogue and customers, sent to Kafka with an account of every record.

How it works, from the inside out:

- `model` decides what the n-th send of a run is, from the seed alone; `entities/` holds what is particular to each
  contract; `distributions` the few random shapes they share.
- `load/` decides when the n-th send is due, from the scenario's curve alone.
- `encoding` turns fields into the bytes of the contract's schema; `sinks/kafka` hands them to Kafka.
- `ledger` writes down what was promised and what was acknowledged; `run` holds these together.

What and when are apart, so that the same seed sends the same records whatever the clock does.
"""
