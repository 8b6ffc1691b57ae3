"""`make release`: a wheel, an inventory of what it runs with, and a note of how they were made.

    dist/comfy2mqtt-<version>-py3-none-any.whl
    dist/comfy2mqtt-<version>.cdx.json       CycloneDX: every package, its version and licence
    dist/comfy2mqtt-<version>.provenance.md  commit, tools, SHA-256 of the files, licences

The arguments are the Python of an environment with the wheel in it and nothing but image.lock's
packages, and the program that writes the inventory (cyclonedx-py).
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

from bridge import __version__

DIST = Path("dist")
LOCKS = ("docs/deploy/home-assistant-addon/image.lock", "docs/deploy/build.lock")


def build() -> Path:
    """Build the wheel; with the commit's time in it, the same commit gives the same bytes."""
    DIST.mkdir(exist_ok=True)
    stamp = _output("git", "log", "-1", "--format=%ct")
    options = ("--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", str(DIST))
    subprocess.run(
        (sys.executable, "-m", "pip", "wheel", "-qq", *options, "."),
        check=True,
        env={**os.environ, "SOURCE_DATE_EPOCH": stamp},
    )
    return DIST / f"comfy2mqtt-{__version__}-py3-none-any.whl"


def inventory(python: str, cyclonedx: str) -> Path:
    """Write what is installed beside the wheel, as a CycloneDX document."""
    path = DIST / f"comfy2mqtt-{__version__}.cdx.json"
    command = (cyclonedx, "environment", "--output-reproducible", "--of", "JSON")
    subprocess.run((*command, "-o", str(path), python), check=True)
    return path


def licences(document: dict[str, Any]) -> dict[str, str]:
    """Return each package's licence, as the inventory has it."""
    found: dict[str, str] = {}
    for part in document.get("components", ()):
        names = []
        for each in part.get("licenses", ()):
            licence = each.get("license", {})
            names.append(each.get("expression") or licence.get("id") or licence.get("name", ""))
        found[f"{part['name']} {part['version']}"] = " / ".join(filter(None, names)) or "unknown"
    return found


def note(wheel: Path, sbom: Path) -> str:
    """Return the note on how these files came to be."""
    changed = " with changes that are in no commit" if _output("git", "status", "--short") else ""
    packages = licences(json.loads(sbom.read_text()))
    lines = [
        f"# comfy2mqtt {__version__}: where it comes from",
        "",
        f"- commit: {_output('git', 'rev-parse', 'HEAD')}{changed}",
        f"- built by: `make release`, Python {platform.python_version()}, {platform.system()}",
        "- built with and run with, by hash:",
        *(f"  - {lock}, SHA-256 {_sha256(Path(lock))}" for lock in LOCKS),
        "",
        "| file | SHA-256 |",
        "|---|---|",
        *(f"| {path.name} | {_sha256(path)} |" for path in (wheel, sbom)),
        "",
        "The same commit, built again with the same tools, gives the same wheel.",
        "",
        "| package | licence |",
        "|---|---|",
        *(f"| {name} | {licence} |" for name, licence in sorted(packages.items())),
        "",
    ]
    return "\n".join(lines)


def _output(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def main() -> None:
    """`build` the wheel alone, or write inventory and note for the one that is there."""
    if sys.argv[1:] == ["build"]:
        build()
        return
    wheel = DIST / f"comfy2mqtt-{__version__}-py3-none-any.whl"
    sbom = inventory(*sys.argv[1:])
    path = DIST / f"comfy2mqtt-{__version__}.provenance.md"
    path.write_text(note(wheel, sbom))
    sys.stdout.write(f"{wheel}\n{sbom}\n{path}\n")


if __name__ == "__main__":
    main()
