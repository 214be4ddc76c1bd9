"""The deduplication key of a record: 16 bytes of MD5 of its idempotency key.

MD5 does not protect against deliberate collisions. Event ids come from producers that we trust (ADR 0003).
"""

from __future__ import annotations

from typing import Final

from data_platform_core.contracts import IDEMPOTENCY_KEY

KEY_BYTES: Final = 16
#: The key as SQL. Spark (for a batch) and DuckDB (to rebuild the index) use the same text.
KEY_SQL: Final = f"unhex(md5({IDEMPOTENCY_KEY}))"
