"""Data formats between the stages: a record's frame and headers, ledgers, landed files, dead letters, columns.

No module here connects to a service, so generator, stream, batch and accounting can share these definitions.
"""
