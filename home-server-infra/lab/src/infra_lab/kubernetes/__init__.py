"""A single-node Kubernetes on this machine, and its light tier: an API server that runs nothing."""
