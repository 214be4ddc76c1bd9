"""What holds for every test of the repository: the order of the tiers, and the seconds that each test took."""

from __future__ import annotations

pytest_plugins = ["tiers", "seconds"]
