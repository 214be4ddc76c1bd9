"""The lake: the Spark session and the Delta tables in the object store."""
