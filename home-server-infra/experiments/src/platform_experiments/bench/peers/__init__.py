"""Other ways to carry a topic into Delta tables, measured beside streaming on the same stack with the same traffic.

plain: poll, decode, append to one table, commit. strict: the same loop with what streaming promises in normal
operation: two tables, exact deduplication, dead letters, the contract's checks. spark: the obvious Spark job.
"""
