"""A8: the content of a run. Bytes, silver, landing table and marts are compared value by value, not by counts and sums.

Each stage is read by means that share nothing with its writer (delta-rs and Arrow for the lake, fastavro for the
wire, COPY for PostgreSQL) and compared in DuckDB, which keeps on disk what does not fit into memory.
"""
