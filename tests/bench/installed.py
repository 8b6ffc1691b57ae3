"""Programs from PyPI that only the bench needs, each in an environment of its own.

It is in the user's cache folder, and made by the first run that needs it.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from bridge import virtualenv
from bridge.comfyui.install import cache_folder
from tests.bench.delivery import BenchError


def installed(package: str, version: str) -> Path:
    """Return the interpreter of a package's environment, made first if need be.

    Raises BenchError.
    """
    folder = cache_folder() / f"{package}-{version}"
    python, whole = virtualenv.interpreter(folder), folder / "whole"
    if whole.exists():
        return python
    try:
        virtualenv.create(folder, say=lambda _: None)
        install = (*("-m", "pip", "install", "-qq"), f"{package}=={version}")
        subprocess.run((python, *install), check=True, capture_output=True, text=True)
    except (virtualenv.VirtualenvError, subprocess.CalledProcessError) as error:
        raise BenchError(f"{package} {version} could not be installed: {error}") from error
    whole.touch()
    return python
