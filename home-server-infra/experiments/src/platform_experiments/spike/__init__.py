"""`make spike`: the same seeded spike against several remedies, measured each second, with a report."""
