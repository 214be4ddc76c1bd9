"""Jobs wire sources, transforms and sinks."""
