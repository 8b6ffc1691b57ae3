"""What a bridge loads before it is asked for anything."""

from __future__ import annotations

import subprocess
import sys

# Features that are off by default, and what they load: megabytes, and tenths of a second.
NOT_WANTED_YET = (
    *("PIL", "aiohttp.web", "boto3", "mcp", "numpy", "obstore", "opentelemetry"),
    *("prometheus_client", "psycopg", "websockets.asyncio.server"),
    *("bridge.adapters.web.adapter", "bridge.agents", "bridge.client"),
    "bridge.jobs.database.postgresql",
)
# With Python's own: 741 when this was written.
MOST_MODULES = 760


def test_a_bridge_loads_no_feature_that_is_off() -> None:
    program = (
        "import sys, bridge.cli.main, bridge.cli.serve, bridge.service.app;"
        f"found = [name for name in {NOT_WANTED_YET!r} if name in sys.modules];"
        f"sys.exit(str(found) if found else len(sys.modules) > {MOST_MODULES})"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert loaded.returncode == 0, loaded.stderr
