"""Every read of a clock that may be set, and why it does no harm: there is no other.

Ages, leases, deadlines and estimates are measured by the journal's clock (`bridge.jobs.clock`), by
a steady one, or by the database's.
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from pathlib import Path

import pytest

FOLDERS = ("bridge", "custom_nodes", "custom_components")
# Calls and references that read the wall clock, or a time that was written by it.
_READS = re.compile(
    r"time\.(time|time_ns|strftime|localtime|gmtime|ctime|asctime)"
    r"|(datetime|date)\.(now|utcnow|today|fromtimestamp)"
    r"|dt_util\.(now|utcnow)|\w*\.st_[mac]time(_ns)?|os\.utime|path\.get[mac]time"
)
_MAY_READ = re.compile(
    r"[.]\s*(time|time_ns|strftime|localtime|gmtime|ctime|asctime|now|utcnow|today|fromtimestamp"
    r"|st_[mac]time(_ns)?|utime|get[mac]time)\b"
)
# In SQL: the database's clock, which all bridges share.
_SQL = re.compile(r"\b(now\(\)|clock_timestamp\(|CURRENT_TIMESTAMP|datetime\('now)", re.IGNORECASE)

_SHOWN = "shown to people"
_LINKS = (
    "a link says until when it holds, in any process that has the key, also after a restart: that "
    "has to be a time of day. Set forward, links end early, and a new one can be had; set back, "
    "they hold longer, and as long as the output is kept, by the journal's clock"
)
_IDENTITY = "whether a file is still the same one, not how old it is"

# For each file: how often it does so, and why it may.
ALLOWED: dict[str, tuple[int, str]] = {
    "bridge/jobs/clock.py": (1, "the journal's clock itself"),
    "bridge/jobs/attempt.py": (1, "a date that a workflow asks for in its files' names"),
    "bridge/jobs/journal/repair.py": (1, "the name of the damaged file that is put aside"),
    "bridge/cli/watch.py": (6, _SHOWN),
    "bridge/cli/show.py": (2, _SHOWN),
    "bridge/cli/operate.py": (1, _SHOWN),
    "bridge/cli/diagnostics.py": (1, _SHOWN),
    "bridge/cli/demo.py": (1, "when a key was made, shown by `keys list`"),
    "bridge/cli/commands/keys.py": (2, "when a key was made, shown by `keys list`"),
    "bridge/adapters/web/first_login.py": (1, "when a key was made, shown by `keys list`"),
    "bridge/service/bridge_info.py": (1, "when health was published, shown"),
    "bridge/comfyui/instance.py": (2, "since when a ComfyUI is in its state, shown"),
    "bridge/comfyui/updates.py": (1, "when releases were looked for, shown"),
    "bridge/adapters/displays.py": (1, "when a display's picture was made, shown"),
    "bridge/adapters/web/content.py": (1, "Last-Modified, beside an ETag that decides"),
    "bridge/logs.py": (1, _SHOWN),
    "bridge/adapters/web/signed_urls.py": (3, _LINKS),
    "bridge/service/public_urls.py": (1, _LINKS),
    "bridge/service/retention.py": (
        2,
        "ages of files; none is deleted for its age until it is old by any clock after a jump",
    ),
    "bridge/media/files.py": (5, "as retention.py, which holds sweeps back; and " + _IDENTITY),
    "bridge/jobs/uploads.py": (1, "as retention.py, which holds sweeps back"),
    "bridge/comfyui/cleanup.py": (1, "as retention.py, which holds sweeps back"),
    "bridge/sinks/delivery.py": (2, "names of files and folders for people, by the time of day"),
    "bridge/sinks/webhooks.py": (
        1,
        "the time in a signature, which its receiver compares with its own",
    ),
    "bridge/jobs/journal/webhooks.py": (1, _SHOWN),
    "bridge/workflows/folder.py": (3, _IDENTITY),
    "bridge/adapters/web/certificate.py": (1, _IDENTITY),
    "bridge/adapters/web/keyring.py": (1, _IDENTITY),
    "custom_nodes/comfy2mqtt/uploads.py": (4, "ages of files; held back after a jump, as there"),
    "custom_components/comfy2mqtt/devices.py": (
        1,
        "whether Home Assistant made an entity just now",
    ),
    "custom_components/comfy2mqtt/media_source.py": (1, "the order of pictures that are shown"),
    "custom_components/comfy2mqtt/hub.py": (1, "since when a display shows a picture, shown"),
    "custom_components/comfy2mqtt/results.py": (1, "when a picture came, shown"),
}
OF_THE_DATABASE: dict[str, tuple[int, str]] = {
    "bridge/jobs/journal/queries.py": (3, "leases: `membership` undoes what was done to the clock"),
    "bridge/jobs/database/blobs.py": (
        3,
        "ages of blobs; none is deleted after a jump, `JumpWatch`",
    ),
}


def reads(text: str) -> int:
    """Count the places where a program reads a clock that may be set."""
    if not _MAY_READ.search(text):
        return 0  # parsing all files takes seconds
    attributes = (each for each in ast.walk(ast.parse(text)) if isinstance(each, ast.Attribute))
    found = (f"{_last_name(each.value)}.{each.attr}" for each in attributes)
    return sum(_READS.fullmatch(each) is not None for each in found)


def _last_name(of: ast.expr) -> str:
    """Return `time` for `time` and for `module.time`, nothing for what has no name."""
    match of:
        case ast.Name(name) | ast.Attribute(_, name):
            return name
    return ""


def reads_in_sql(text: str) -> int:
    """Count the places where its SQL reads the database's clock."""
    if not _SQL.search(text):
        return 0
    constants = (each for each in ast.walk(ast.parse(text)) if isinstance(each, ast.Constant))
    found = 0
    for each in constants:
        value = each.value
        if isinstance(value, bytes):
            value = value.decode(errors="replace")
        found += len(_SQL.findall(value)) if isinstance(value, str) else 0
    return found


def files() -> dict[str, str]:
    paths = (path for folder in FOLDERS for path in Path(folder).rglob("*.py"))
    return {path.as_posix(): path.read_text() for path in paths}


def test_nobody_reads_the_wall_clock_without_a_reason() -> None:
    found = Counter({name: reads(text) for name, text in files().items()})
    assert +found == Counter({name: count for name, (count, _) in ALLOWED.items()})


def test_no_sql_reads_the_databases_clock_without_a_reason() -> None:
    found = Counter({name: reads_in_sql(text) for name, text in files().items()})
    assert +found == Counter({name: count for name, (count, _) in OF_THE_DATABASE.items()})


@pytest.mark.parametrize(
    "line",
    [
        "time.time()",
        "f(clock=time.time)",
        "datetime.now(UTC)",
        "datetime.date.today()",
        "age = path.stat().st_mtime",
        "time.time_ns()",
    ],
)
def test_each_way_to_read_it_is_seen(line: str) -> None:
    assert reads(line) == 1


def test_a_steady_clock_is_none_that_may_be_set() -> None:
    assert reads("time.monotonic() + time.perf_counter() + loop.time() + self.clock.now()") == 0
