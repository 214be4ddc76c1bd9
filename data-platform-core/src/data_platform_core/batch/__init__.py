"""Batch work on the lake: the load of silver into the warehouse."""
