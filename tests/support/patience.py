"""The longest time that a test waits for what must happen."""

from __future__ import annotations

# Seconds. No measure of speed: it only ends a wait for what never comes, before pytest's own
# time-out does, which could not tell where the test waited.
PATIENCE_S = 120.0
