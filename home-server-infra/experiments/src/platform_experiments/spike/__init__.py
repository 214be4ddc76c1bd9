"""`make spike`: the same seeded spike against several remedies, measured each second, told in a report."""
