"""Pure DataFrame -> DataFrame; no I/O, so that each is tested on literal frames."""
