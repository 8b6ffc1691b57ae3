"""A certificate for the TLS of a broker on this machine."""

from __future__ import annotations

import subprocess
from pathlib import Path


def make_certificate(folder: Path) -> Path:
    """Make a certificate for localhost that signs itself; its key is beside it in key.pem."""
    path = folder / "certificate.pem"
    command = (
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 "
        "-subj /CN=localhost -addext subjectAltName=DNS:localhost"
    )
    files = ["-keyout", str(folder / "key.pem"), "-out", str(path)]
    subprocess.run([*command.split(), *files], check=True, capture_output=True)
    return path
