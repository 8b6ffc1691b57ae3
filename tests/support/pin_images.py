"""`make pin-images`: writes the digests of the base images behind their tags. Needs docker."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

FILES = (
    "Dockerfile",
    "docs/deploy/home-assistant-addon/Dockerfile",
    "compose.yaml",
    "docs/deploy/group.compose.yaml",
)
# In a Dockerfile an ARG names the image; a digest that is there already is replaced.
_IMAGE = re.compile(
    r"^(?P<before>(?:ARG \w+_IMAGE=|FROM |\s+image: ))(?P<image>[a-z][\w./-]*:[\w.-]+)(?:@\S+)?$",
    re.MULTILINE,
)


def images(text: str) -> list[str]:
    """Return the images that a file begins from, by their tags."""
    return [found["image"] for found in _IMAGE.finditer(text)]


def pinned(text: str, digest: Callable[[str], str]) -> str:
    """Return the file with each image's digest behind its tag."""
    return _IMAGE.sub(
        lambda found: f"{found['before']}{found['image']}@{digest(found['image'])}", text
    )


def _asked(image: str) -> str:
    command = ("docker", "buildx", "imagetools", "inspect", "--format", "{{.Manifest.Digest}}")
    done = subprocess.run((*command, image), check=True, capture_output=True, text=True)
    return done.stdout.strip()


def main() -> int:
    """Change the files; returns the exit status."""
    try:
        for file in map(Path, FILES):
            file.write_text(pinned(file.read_text(), _asked))
    except (OSError, subprocess.CalledProcessError) as error:
        sys.stderr.write(f"docker did not say what digest an image has: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
