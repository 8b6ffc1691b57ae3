"""A bound on the work that one file may cause.

Subgraphs multiply: a small file can ask for more nodes and inputs than there is memory. What is
made and what is looked at is counted, and a file that asks for too much is refused. The dearest
of 694 templates, with 11 nodes and 9 subgraphs of 24, costs 4,400 units; the limit is a second's
work.
"""

from __future__ import annotations

from bridge.workflows.conversion.errors import ConversionError

MAX_UNITS = 250_000


class Budget:
    """Counts the units of one conversion: slots made, links looked at, orders tried."""

    def __init__(self, units: int = MAX_UNITS) -> None:
        self._left = units

    def spend(self, units: int = 1) -> None:
        """Take units away. Raises ConversionError `too_large` if there are none left."""
        self._left -= units
        if self._left < 0:
            raise ConversionError(
                "too_large", "the workflow spreads out to more nodes and inputs than are taken"
            )
