"""The settings of a process before it serves."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

# Messages of 8 MB, one after another, and the resident pages before and after.
LARGE = """
import sys
from bridge.cli.serve import give_back_large_blocks
def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096
if "give back" in sys.argv:
    give_back_large_blocks()
before = resident()
for _ in range(3):
    message = b"x" * 8_000_000
    del message
print(resident() - before)
"""


def grown(*words: str) -> int:
    command = (sys.executable, "-c", LARGE, *words)
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


@pytest.mark.slow
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library keeps none of it")
def test_memory_of_large_messages_is_given_back_to_the_system() -> None:
    assert grown() > 7_000_000
    assert grown("give back") < 1_000_000
