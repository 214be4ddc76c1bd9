"""Experiments on a running platform: demo, spike, bench and the alert drill."""
