"""One entity's records into bronze, silver and dead letters, each exactly once; and landed files by the same path."""
