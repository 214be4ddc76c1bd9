"""The key by which a record is recognised when it comes again: 16 bytes of MD5 of its idempotency key.

MD5 is no protection against somebody who wants two records to collide; event ids are made by producers that we trust
not to (ADR 0003).
"""

from __future__ import annotations

from typing import Final

from data_platform_core.contracts import IDEMPOTENCY_KEY

KEY_BYTES: Final = 16
#: The key as SQL. Spark, which judges a batch, and DuckDB, which reads the index back, take the same text.
KEY_SQL: Final = f"unhex(md5({IDEMPOTENCY_KEY}))"
