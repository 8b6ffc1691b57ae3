"""`make integration`: the archive of the integration for Home Assistant, as HACS takes it.

It is what is committed. The manifest's links are of `.example`, which leads nowhere on purpose: who
publishes the archive names the repository's address, and they lead there.
"""

from __future__ import annotations

import io
import json
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

FOLDER = "custom_components/comfy2mqtt"
ARCHIVE = Path("dist") / "comfy2mqtt-homeassistant.zip"
MANIFEST = "manifest.json"


def linked(manifest: Mapping[str, Any], address: str) -> dict[str, Any]:
    """Return a manifest whose links lead to a repository at GitHub, where HACS has them from."""
    address = address.rstrip("/").removesuffix(".git")
    return {
        **manifest,
        "documentation": f"{address}/blob/HEAD/docs/home-assistant.md",
        "issue_tracker": f"{address}/issues",
    }


def archive(committed: bytes, address: str | None) -> bytes:
    """Return the archive; `committed` is a zip of the folder, `address` the repository's."""
    if address is None:
        return committed
    made = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(committed)) as source, zipfile.ZipFile(made, "w") as target:
        for each in source.infolist():
            data = source.read(each)
            if each.filename == MANIFEST:
                data = f"{json.dumps(linked(json.loads(data), address), indent=2)}\n".encode()
            target.writestr(each, data, zipfile.ZIP_DEFLATED)
    return made.getvalue()


def main() -> None:
    """Write the archive; the argument is the repository's address, where there is one."""
    address = next(iter(sys.argv[1:]), None)
    if address is not None and not address.startswith("https://"):
        sys.exit(f"{address!r}: expected the repository's address, https://...")
    command = ("git", "archive", "--format=zip", f"HEAD:{FOLDER}")
    committed = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout
    ARCHIVE.parent.mkdir(exist_ok=True)
    ARCHIVE.write_bytes(archive(committed, address))
    sys.stdout.write(f"{ARCHIVE}\n")
    if address is None:
        sys.stderr.write(
            "its links lead nowhere: ADDRESS=https://... names the repository to publish it from\n"
        )


if __name__ == "__main__":
    main()
