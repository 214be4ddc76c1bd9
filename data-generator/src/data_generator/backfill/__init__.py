"""A history: visits and orders of past days, as fast as Kafka takes them or straight to the lake, and resumable.

- `plan` says which days, how many records each, and what else a resumed process must agree on;
- `history` deals the sends out in order: the n-th one is the same in every process that is given the same plan;
- `run` sends them in chunks and marks each finished chunk; `mark` is that mark;
- `targets` are where a chunk goes; `tail` finds out what of an unfinished chunk Kafka has already (ADR 0009).
"""
