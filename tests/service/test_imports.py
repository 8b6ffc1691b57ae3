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
# Without Python's own, of which each version has others: 496 when this was written.
MOST_MODULES = 515


def test_a_bridge_loads_no_feature_that_is_off() -> None:
    program = (
        "import sys, bridge.cli.main, bridge.cli.serve, bridge.service.app;"
        "print(*sys.modules, sep='\\n')"
    )
    printed = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, check=True)
    loaded = set(printed.stdout.decode().split())
    assert not loaded & set(NOT_WANTED_YET)
    ours = [name for name in loaded if name.partition(".")[0] not in sys.stdlib_module_names]
    assert len(ours) <= MOST_MODULES
