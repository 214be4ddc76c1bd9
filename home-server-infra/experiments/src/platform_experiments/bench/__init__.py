"""`make bench`: measures throughput and latency of this machine on a separate fresh stack. It asserts nothing."""
