"""Pure functions from DataFrame to DataFrame. Without I/O, so tests use literal frames."""
