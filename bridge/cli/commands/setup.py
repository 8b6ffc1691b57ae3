"""`init`, `demo`, `models`, `convert`, `completion` and `asyncapi`: set up, and prepare."""

from __future__ import annotations

from pathlib import Path

import click

from bridge.cli.options import Commands, GroupedCommand
from bridge.cli.shared import FAILED, WRONG_USAGE, run_async, settings, stop
from bridge.config import FILE, Config


@click.command(cls=GroupedCommand)
@click.option(
    "--file",
    default=FILE,
    show_default=True,
    type=click.Path(path_type=Path),
    help="The settings file to write.",
)
@click.option("--overwrite", is_flag=True, help="Replace an existing file.")
def init(*, file: Path, overwrite: bool) -> None:
    """Ask five questions, write a settings file, and test it."""
    from bridge.cli.init import try_settings, write_settings

    write_settings(file, overwrite=overwrite)
    run_async(try_settings(file))


@click.command(cls=GroupedCommand)
@click.option("--once", is_flag=True, help="Exit after one picture.")
@click.option(
    *("-o", "--output", "folder"),
    default=".",
    metavar="FOLDER",
    type=click.Path(path_type=Path),
    help="Where to save the picture.  [default: the working folder]",
)
@settings("workflows")
def demo(*, once: bool, folder: Path, settings: Config) -> None:
    """Start a broker, a bridge and a ComfyUI, and paint one picture."""
    from bridge.cli.demo import demo as run_demo

    run_async(run_demo(settings.workflows, folder, once=once))


@click.group(cls=Commands)
def models() -> None:
    """Fetch models that workflows need."""


@models.command("get")
@click.argument("workflow")
@click.option(
    "--to",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="ComfyUI's folder of models; by default that of the ComfyUI which the bridge starts.",
)
@settings(
    *("data", "workflows", "comfyui_url", "comfyui_path", "comfyui_args", "comfyui"),
    *("journal", "member", "model_hosts"),
)
def get_models(*, workflow: str, to: Path | None, settings: Config) -> None:
    """Fetch the missing models of a WORKFLOW from the URLs in its file: https, only model_hosts."""
    from bridge.cli.models import get as command

    run_async(command(settings, workflow, to))


@click.command(cls=GroupedCommand)
@click.argument("path", metavar="FILE", type=click.Path(path_type=Path))
@click.option(
    "--object-info",
    "saved",
    type=click.Path(path_type=Path),
    help="A saved answer to ComfyUI's /object_info; then no ComfyUI is needed.",
)
@settings("comfyui_url", "comfyui_secret", "data")
def convert(path: Path, saved: Path | None, settings: Config) -> None:
    """Print a workflow FILE, also of ComfyUI's page or a picture, in API format."""
    from bridge.cli.convert import convert_file

    run_async(convert_file(settings, path, saved))


@click.command(cls=GroupedCommand)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the script for a SHELL's tab completion.

    bash: eval "$(comfy2mqtt completion bash)", in ~/.bashrc; zsh and fish alike.
    """
    from bridge.cli.completion import script

    click.echo(script(click.get_current_context().find_root().command, shell))


@click.command(cls=GroupedCommand)
@click.option(
    "--write",
    "folder",
    type=click.Path(path_type=Path),
    help="Write it into this folder, with a page and JSON Schemas.",
)
@click.option("--check", is_flag=True, help="Only report whether the folder is up to date.")
def asyncapi(*, folder: Path | None, check: bool) -> None:
    """Print the topics and messages as an AsyncAPI 3 document."""
    from bridge.cli import documents

    if folder is None and check:
        stop("--check: also give --write FOLDER, the folder to look at", WRONG_USAGE)
    if folder is not None and check:
        stale = documents.stale(folder)
        if stale:
            stop(f"{folder}: not up to date with this code: {', '.join(stale)}", FAILED)
    elif folder is None:
        documents.print_document()
    else:
        documents.write(folder)
