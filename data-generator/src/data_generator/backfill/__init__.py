"""A history: visits and orders of past days, as fast as Kafka accepts them or straight to the lake; resumable.

- `plan` defines the days, their record counts, and everything else that a resumed process must share;
- `history` generates the sends in order: the n-th one is the same in every process with the same plan;
- `run` sends them in chunks and marks each finished chunk; `mark` is that mark;
- `targets` are the destinations of a chunk; `tail` finds the records of an unfinished chunk in Kafka (ADR 0009).
"""
