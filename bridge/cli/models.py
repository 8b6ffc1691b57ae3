"""`comfy2mqtt models get`: fetches the models that a workflow names and ComfyUI lacks."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from rich import progress
from rich.console import Console
from rich.markup import escape

from bridge.cli.shared import FAILED, WRONG_USAGE, stop
from bridge.comfyui import install, managed
from bridge.config import Config, check_comfyuis, check_downloads
from bridge.contract.errors import BridgeError
from bridge.media.model_files import ModelSource, Progress, fetch
from bridge.service.stores import library_of
from bridge.workflows.models import ModelFile
from bridge.workflows.workflow import Workflow

_BY_HAND = "the workflow names no URL; docs/models.md says where such a file goes"
_UNKNOWN = (
    "Which models it lacks is known once a bridge has met its ComfyUI: `comfy2mqtt workflows` and "
    "`comfy2mqtt doctor` name them, and docs/models.md says where they go"
)
# A line for each so many seconds, if there is no terminal.
_EVERY_S = 10.0


async def get(settings: Config, name: str, to: Path | None) -> int:
    """Fetch what a workflow lacks; prints the path of each file. Raises UnknownWorkflow."""
    check_comfyuis(settings)
    check_downloads(settings)
    library = library_of(settings)
    await library.open()
    workflow = library.get(name)
    folder = to or _models_folder(settings)
    wanted = [each for each in _wanted(workflow) if not (folder / each.folder / each.name).exists()]
    for choice in () if workflow.missing is None else workflow.missing.choices:
        if not any(each.name == choice.value.replace("\\", "/") for each in wanted):
            click.echo(f"{choice.input} {choice.value!r}: {_BY_HAND}", err=True)
    if workflow.missing is None and not any(each.url for each in workflow.models):
        click.echo(f"{name} names no URL of a model. {_UNKNOWN}", err=True)
    elif not wanted:
        click.echo(f"nothing to fetch for {name}", err=True)
    failed = False
    for model in wanted:
        failed = not await _got(settings, model, folder) or failed
    return FAILED if failed else 0


async def _got(settings: Config, model: ModelFile, folder: Path) -> bool:
    target = folder / model.folder / model.name
    source = ModelSource(model.url or "", model.sha256)
    try:
        with _shown(f"{model.folder}/{model.name}") as shown:
            fetched = await fetch(source, target, settings.model_hosts, shown)
    except BridgeError as error:
        click.echo(f"{model.name}: {error}", err=True)
        return False
    if not fetched.checked:
        note = f"{model.name}: its hash is not known beforehand; its SHA-256 is {fetched.sha256}"
        click.echo(note, err=True)
    click.echo(str(target))
    return True


def _wanted(workflow: Workflow) -> list[ModelFile]:
    """Return the files with a URL that ComfyUI lacks; all of them while it was not asked."""
    lacking = workflow.missing
    if lacking is None:
        return [model for model in workflow.models if model.url is not None]
    names = {choice.value.replace("\\", "/") for choice in lacking.choices}
    return [each for each in workflow.models if each.url is not None and each.name in names]


def _models_folder(settings: Config) -> Path:
    """Return the folder of models of the first ComfyUI that the bridge starts."""
    for comfyui in settings.comfyuis:
        if comfyui.url is not None:
            continue
        base = _base(comfyui.args)
        if base is not None:
            return base / "models"
        if comfyui.path is not None:
            return comfyui.path / "models"
        chosen = managed.current(settings.managed)
        if chosen is not None:
            return managed.home_of(settings.managed) / "models"
        found = install.find()
        if found is not None:
            return found.path / "models"
    return stop("the folder of ComfyUI's models is unknown: name it, --to FOLDER", WRONG_USAGE)


def _base(args: tuple[str, ...]) -> Path | None:
    for index, each in enumerate(args):
        name, _, value = each.partition("=")
        if name == "--base-directory":
            return Path(value or "".join(args[index + 1 : index + 2]))
    return None


@contextmanager
def _shown(what: str) -> Iterator[Progress]:
    """Show the progress of one file: a bar on a terminal, lines in a pipe."""
    if sys.stderr.isatty():
        with progress.Progress(
            progress.TextColumn("{task.description}"),
            progress.BarColumn(),
            progress.DownloadColumn(),
            progress.TransferSpeedColumn(),
            progress.TimeRemainingColumn(),
            console=Console(stderr=True),
        ) as bar:
            task = bar.add_task(escape(what), total=None)
            yield lambda here, total: bar.update(task, completed=here, total=total)
        return
    said = 0.0

    def say(here: int, total: int | None) -> None:
        nonlocal said
        now = time.monotonic()
        if now - said >= _EVERY_S or here == total:
            said = now
            of = "" if total is None else f" of {total / 1e6:,.0f}"
            click.echo(f"{what}: {here / 1e6:,.0f}{of} MB", err=True)

    yield say
