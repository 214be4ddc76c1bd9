"""What travels between the stations: the frame and headers of a record, ledgers, landed files, dead letters, columns.

No module here talks to a service, so that generator, stream, batch and accounting share one description.
"""
