"""The command line."""

from __future__ import annotations

import asyncio
import logging
import sys
from pathlib import Path
from typing import Any

import click

from bridge import __version__, config
from bridge.config import Config, ConfigError


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="comfy2mqtt")
def main() -> None:
    """ComfyUI on the message bus."""


@main.command()
@click.option("--config", "file", type=click.Path(path_type=Path))
def serve(file: Path | None) -> None:
    """Run the bridge."""
    from bridge.service import serve as run

    settings = config.load(file=file)
    logging.basicConfig(level=settings.log_level.upper())
    asyncio.run(run(settings))
