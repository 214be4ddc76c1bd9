"""Service levels as rows: what is promised of each pipeline, whether it was kept, and who is notified (ADR 0026)."""
