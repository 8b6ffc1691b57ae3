"""`python -m bridge` is `comfy2mqtt`."""

from bridge.cli.main import main

main(prog_name="comfy2mqtt")
