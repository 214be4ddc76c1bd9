"""`make bench`: what this machine sustains, measured on a fresh stack of its own. It asserts nothing."""
