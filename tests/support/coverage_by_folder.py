"""Prints how much of each folder of bridge/ the measured tests ran: `make coverage`.

`python -m tests.support.coverage_by_folder --at-least PERCENT`, after `coverage run`; exits with 1
if the total is lower. A figure counts lines and branches, as coverage's own reports do.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections import defaultdict
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

_COUNTS = ("covered_lines", "num_statements", "covered_branches", "num_branches")


def by_folder(report: Mapping[str, Any]) -> dict[str, float]:
    """Return the percentage of each folder, from a report in coverage's JSON format.

    `report["files"]` maps paths to a `summary`; the files of a folder count, not those below it.
    """
    sums: defaultdict[str, list[int]] = defaultdict(lambda: [0] * len(_COUNTS))
    for path, file in report["files"].items():
        folder = str(PurePosixPath(path).parent)
        sums[folder] = [
            total + file["summary"][count]
            for total, count in zip(sums[folder], _COUNTS, strict=True)
        ]
    return {
        folder: 100 * (lines + branches) / max(1, statements + ways)
        for folder, (lines, statements, branches, ways) in sorted(sums.items())
    }


def main() -> int:
    """Print the table; return 1 if the total is too low."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--at-least", type=float, required=True, metavar="PERCENT")
    at_least: float = parser.parse_args().at_least
    command = (sys.executable, "-m", "coverage", "json", "-q", "-o", "-")
    run = subprocess.run(command, check=False, stdout=subprocess.PIPE)
    if run.returncode != 0:
        sys.stdout.buffer.write(run.stdout)  # coverage's own explanation
        return run.returncode
    report = json.loads(run.stdout)
    total: float = report["totals"]["percent_covered"]
    rows = by_folder(report) | {"total": total}
    sys.stdout.writelines(f"{name:<32} {percent:5.1f} %\n" for name, percent in rows.items())
    if total < at_least:
        sys.stdout.write(f"the total is below {at_least} %\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
