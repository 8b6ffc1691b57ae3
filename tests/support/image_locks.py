"""`make lock`: what the image holds and is built with, by hash, as the tests have it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

IMAGE = Path("docs/deploy/home-assistant-addon/image.lock")
BUILD = Path("docs/deploy/build.lock")
_COMPILE = (
    *("pip", "compile", "--quiet", "--system-certs", "--universal", "--python-version", "3.11"),
    *("--generate-hashes", "--no-annotate", "--no-header", "--no-emit-index-url"),
    *("--no-emit-find-links", "--constraint", "requirements.lock"),
)
_OF_IMAGE = """\
# What the image holds: the dependencies in pyproject.toml, the extras postgresql and s3, in the
# versions of requirements.lock, with the hashes of their files. Written by `make lock`, by uv.
"""
_OF_BUILD = """\
# What a wheel of ours is built with, in the versions of requirements.lock, with the hashes of their
# files. Written by `make lock`, by uv.
"""


def main() -> None:
    """Write both; the argument is uv."""
    uv = sys.argv[1]
    extras = ("--extra", "postgresql", "--extra", "s3")
    IMAGE.write_text(_OF_IMAGE + _compiled(uv, *extras, "pyproject.toml"))
    BUILD.write_text(_OF_BUILD + _compiled(uv, "-", wanted="hatchling"))


def _compiled(uv: str, *options: str, wanted: str | None = None) -> str:
    command = (uv, *_COMPILE, *options)
    done = subprocess.run(command, check=True, capture_output=True, text=True, input=wanted)
    return done.stdout


if __name__ == "__main__":
    main()
