"""`make lock`: pins the packages of the managed ComfyUI by hash, for every system and Python.

Versions come from install.py and constraints.txt; this adds what files of them there are. The
requirements of ComfyUI itself are read from the install that is in the cache folder.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from bridge.comfyui import install

_ARM = "platform_machine == 'aarch64'"
_OTHERS = "platform_machine != 'aarch64'"
_HEADER = """\
# All packages of the managed ComfyUI with the hashes of their files, for every system and Python.
# Written by `make lock` from constraints.txt and install.py, by uv. Installed with --no-deps:
# torchaudio's metadata would bring another torch.
"""
_COMPILE = (
    *("pip", "compile", "--quiet", "--system-certs", "--universal", "--python-version", "3.11"),
    *("--generate-hashes", "--only-binary", ":all:", "--no-annotate", "--no-header"),
    *("--no-emit-index-url", "--no-emit-find-links"),
)


def main() -> None:
    """Write the lock; the argument is uv."""
    uv = sys.argv[1]
    wanted = (install.folder() / "ComfyUI" / "requirements.txt").read_text()
    family = {"torch", "torchvision", "torchaudio"}
    rest = [line for line in wanted.splitlines() if line.strip() not in family]
    kinds = ((install.TORCH, _OTHERS), (install.TORCH_ARM, _ARM))
    pins = [
        f"{pin} ; {where}" for torch, where in kinds for pin in (torch.torch, torch.torchvision)
    ]
    audio = [f"{torch.torchaudio} ; {where}" for torch, where in kinds]
    packages = _compiled(
        uv, [*pins, install.UNLISTED, *rest], "--constraint", str(install.CONSTRAINTS)
    )
    install.LOCK.write_text(_HEADER + packages + _compiled(uv, audio, "--no-deps"))


def _compiled(uv: str, requirements: list[str], *options: str) -> str:
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "wanted.in")
        source.write_text("\n".join(requirements))
        command = (uv, *_COMPILE, *options, str(source))
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout


if __name__ == "__main__":
    main()
