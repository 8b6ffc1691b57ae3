"""The one line of a program's last output that says why it ended. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence

# The end of a Python traceback, an argument parser's complaint, the dynamic loader's, the kernel's.
_ERROR = re.compile(
    r"^(?:[A-Za-z_][\w.]*(?:Error|Exception|Interrupt|Exit)\b(?::|$)"
    r"|[\w./-]+: error: "
    r"|(?:.*: )?(?:Segmentation fault|Bus error|Illegal instruction)\b"
    r"|.*error while loading shared libraries: )"
)


def error_line(lines: Sequence[str]) -> str:
    """Return the last line that is an error's, else the last that says anything; "" without any."""
    said = [line.strip() for line in lines if line.strip()]
    errors = [line for line in said if _ERROR.match(line)]
    return (errors or said or [""])[-1]
