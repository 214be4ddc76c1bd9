"""Due times of records: the rate curve, and pacing along it."""
