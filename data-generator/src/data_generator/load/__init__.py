"""When each record is due: the curve of the rate, and the clock that follows it."""
