"""The place that `-o` gives for a job's outputs: a folder, a file, or standard output.

`-` is standard output, and an existing folder or file is used as such. Of other names, one that
ends in a slash or has no extension is a folder to be made, and any other a file.
"""

from __future__ import annotations

import mimetypes
import os
import re
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from bridge.atomicfile import try_folder, write_file
from bridge.cli.shared import FAILED, WRONG_USAGE, stop
from bridge.client import Job, JobOutput
from bridge.contract.messages import Format
from bridge.contract.targets import extension_of

STANDARD_OUTPUT = "-"
_FORMATS: dict[str, Format] = {".jpg": "jpeg", ".jpeg": "jpeg", ".webp": "webp"}
_UNSAFE = re.compile(r"[^A-Za-z0-9_.-]")


class Destination(Protocol):
    """A place that outputs are written to."""

    def check(self) -> None:
        """End the command if nothing could be written there. Called before the job is sent."""

    def save(self, job: Job, outputs: Sequence[JobOutput]) -> list[Path]:
        """Write the outputs, and return their files. Blocks. Raises OSError."""


def destination_of(text: str) -> Destination:
    """Return the place that `-o` names."""
    if text == STANDARD_OUTPUT:
        return _StandardOutput()
    path = Path(text).expanduser()
    named_folder = text.endswith(("/", os.sep)) or path.suffix == ""
    if path.is_dir() or (named_folder and not path.exists()):
        return _Folder(path)
    return _File(path)


def format_of(text: str) -> Format | None:
    """Return the format to ask for by a file's extension; None for no conversion.

    ComfyUI makes PNG, so that `.png` needs none.
    """
    return None if text == STANDARD_OUTPUT else _FORMATS.get(Path(text).suffix.lower())


def default_name(job: Job, output: JobOutput) -> str:
    """Return a file name that says whose output it is; no path in it is believed."""
    return file_name(f"{job.workflow}-{job.id[:12]}-{output.info.index}", output)


def file_name(stem: str, output: JobOutput) -> str:
    """Return a file name for an output, with the extension of its content type."""
    return f"{_UNSAFE.sub('_', stem)}.{extension_of(output.info)}"


class _Folder:
    def __init__(self, path: Path) -> None:
        self._path = path

    def check(self) -> None:
        missing = not self._path.exists()
        check_folder(self._path)
        if missing:
            # A job that is refused leaves no empty folder.
            with suppress(OSError):
                self._path.rmdir()

    def save(self, job: Job, outputs: Sequence[JobOutput]) -> list[Path]:
        paths = [self._path / default_name(job, each) for each in outputs]
        for path, output in zip(paths, outputs, strict=True):
            write_file(path, output.data)
        return paths


class _File:
    """One file; of several outputs the others stand beside it, numbered."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def check(self) -> None:
        if self._path.exists() and not os.access(self._path, os.W_OK):
            _cannot(self._path, "it is not writable")
        if not self._path.exists() or self._path.is_file():
            check_folder(self._path.parent)

    def save(self, _job: Job, outputs: Sequence[JobOutput]) -> list[Path]:
        paths = [
            self._path if number == 0 else self._path.with_stem(f"{self._path.stem}-{number}")
            for number in range(len(outputs))
        ]
        for path, output in zip(paths, outputs, strict=True):
            if path.exists() and not path.is_file():
                path.write_bytes(output.data)  # a device or a pipe is not replaced
            else:
                write_file(path, output.data)
            _note_other_type(path, output)
        return paths


class _StandardOutput:
    def check(self) -> None:
        if sys.stdout.isatty():
            stop(
                "-o -: a terminal cannot show the bytes of a picture: "
                "redirect them, `-o - > picture.png`",
                WRONG_USAGE,
            )

    def save(self, job: Job, outputs: Sequence[JobOutput]) -> list[Path]:
        if len(outputs) != 1:
            stop(
                f"-o -: the job gave {len(outputs)} outputs, and standard output takes one: "
                f"comfy2mqtt get {job.id} -o FOLDER",
                FAILED,
            )
        sys.stdout.buffer.write(outputs[0].data)
        sys.stdout.buffer.flush()
        return []


def check_folder(folder: Path) -> None:
    """Make the folder, and a file in it that is gone at once; end the command if that fails."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        try_folder(folder)
    except FileExistsError:
        _cannot(folder, "it is a file, not a folder")
    except OSError as error:
        _cannot(folder, error.strerror or str(error))


def _cannot(path: Path, why: str) -> None:
    stop(f"-o: nothing can be written to {path}: {why}; nothing was sent", WRONG_USAGE)


def _note_other_type(path: Path, output: JobOutput) -> None:
    kind = output.info.content_type.partition(";")[0]
    guessed = mimetypes.guess_type(path.name)[0]
    if guessed is not None and guessed != kind:
        sys.stderr.write(f"{path} holds {kind}, not what its name says\n")
