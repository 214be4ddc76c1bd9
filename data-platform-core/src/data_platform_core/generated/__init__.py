"""Files that a tool or a reader insists on, written from the truths and catalogues by `make generate`."""
