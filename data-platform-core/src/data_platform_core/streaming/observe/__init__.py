"""What the driver shows of itself: lag in messages and seconds, progress, metrics, what it waits for, hangs."""
