"""`python -m bridge` is `comfy2mqtt`."""

from bridge.cli import main

main()
