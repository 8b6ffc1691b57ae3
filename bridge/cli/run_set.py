"""`comfy2mqtt run` with `--each`, `--grid` or `--repeat`: many jobs, one bar, and their files."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import click

from bridge.atomicfile import write_file
from bridge.cli.destination import STANDARD_OUTPUT, check_folder, file_name
from bridge.cli.options import INTERRUPTED
from bridge.cli.progress import SetProgress
from bridge.cli.shared import FAILED, WRONG_USAGE, explain, stop
from bridge.client import JobOutput, Set
from bridge.contract.errors import BridgeError
from bridge.contract.messages import encode, or_none
from bridge.contract.retained import Definition
from bridge.contract.sets import SetResult

_RANGE = re.compile(r"(?P<start>-?[0-9.]+)\.\.(?P<to>-?[0-9.]+)(:(?P<step>-?[0-9.]+))?")


def each_of(path: Path, definition: Definition) -> list[dict[str, Any]]:
    """Read a file of jobs: a CSV with the inputs' names first, or a JSON object a line.

    Media inputs name files, beside that one.
    """
    try:
        text = path.read_text("utf-8-sig")
    except OSError as error:
        stop(f"--each {path}: {error.strerror or error}", WRONG_USAGE)
    except UnicodeDecodeError:
        stop(f"--each {path}: expected a text file in UTF-8", WRONG_USAGE)
    entries = _rows(path, text) if path.suffix.lower() == ".csv" else _objects(path, text)
    if not entries:
        stop(f"--each {path}: it contains no job", WRONG_USAGE)
    return [_with_media(entry, definition, path) for entry in entries]


def grid_of(given: tuple[str, ...], definition: Definition) -> dict[str, Any]:
    """Read `NAME=A,B,C`, `NAME=1..9`, `NAME=1..9:2`, `NAME=seeds:4` and `NAME=set:ID`."""
    found: dict[str, Any] = {}
    for each in given:
        name, equals, text = each.partition("=")
        if not equals or not text or name in found:
            stop(f"--grid {each}: expected NAME=VALUE,VALUE,..., each name once", WRONG_USAGE)
        found[name] = _axis(each, name, text, definition)
    return found


async def save_results(
    jobs: Set, folder: Path, *, as_json: bool, interrupted: asyncio.Event
) -> int:
    """Save what the jobs of a set give, in a folder that is there; returns the exit status."""
    paths: list[Path] = []
    with SetProgress(jobs, quiet=as_json) as progress:
        async for job in jobs:
            try:
                outputs = await job.outputs()
            except BridgeError as error:
                progress.failed(job, explain(error))
                continue
            for output in outputs:
                # The set's beginning, the job's place in it, and the output's.
                place = f"{job.id.removeprefix(jobs.id)}-{output.info.index}"
                path = folder / file_name(f"{jobs.workflow}-{jobs.id[:12]}{place}", output)
                paths.append(await _saved(jobs, path, output, as_json=as_json))
            progress.done(job)
        result = await jobs.outcome()
        paths += await _save_collected(jobs, result, folder, as_json=as_json)
    if as_json:
        click.echo(encode({"files": [str(path) for path in paths], "result": result}))
    if result.state == "succeeded":
        return 0
    click.echo(
        f"set {jobs.id} {result.state}: {result.counts.succeeded} of {result.total} succeeded",
        err=True,
    )
    return INTERRUPTED if interrupted.is_set() else FAILED


async def _save_collected(
    jobs: Set, result: SetResult, folder: Path, *, as_json: bool
) -> list[Path]:
    """Save what the set made of its jobs' outputs, and say what is not in it."""
    paths = []
    for output in await jobs.outputs():
        stem = f"{jobs.workflow}-{jobs.id[:12]}-{output.info.name}"
        path = folder / file_name(stem, output)
        paths.append(await _saved(jobs, path, output, as_json=as_json))
    for each in or_none(result.missing) or []:
        click.echo(each.error.message, err=True)
    return paths


async def _saved(jobs: Set, path: Path, output: JobOutput, *, as_json: bool) -> Path:
    """Write an output's file, and return its place; end the command where that fails."""
    try:
        await asyncio.to_thread(write_file, path, output.data)
    except OSError as error:
        stop(
            f"{path}: {error.strerror or error}; the bridge has the outputs: "
            f"comfy2mqtt get --set {jobs.id} -o FOLDER",
            FAILED,
        )
    if not as_json:
        click.echo(str(path))
    return path


def folder_of(text: str) -> Path:
    """Return the folder that `-o` names; end the command if it can be none."""
    path = Path(text).expanduser()
    if text == STANDARD_OUTPUT or (path.exists() and not path.is_dir()):
        stop("-o: the files of a set need a folder", WRONG_USAGE)
    check_folder(path)
    return path.resolve()


def _rows(path: Path, text: str) -> list[dict[str, Any]]:
    # Not line by line: a cell may have several.
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        rows = list(reader)
    except csv.Error as error:
        stop(f"--each {path}: line {reader.line_num}: {error}", WRONG_USAGE)
    for number, row in enumerate(rows, 2):
        if None in row:
            stop(f"--each {path}: row {number} has more columns than the first", WRONG_USAGE)
    # An empty cell leaves the input as it is.
    return [{name: value for name, value in row.items() if value} for row in rows]


def _objects(path: Path, text: str) -> list[dict[str, Any]]:
    def bad(where: str, problem: object) -> NoReturn:
        stop(f"--each {path}: {where}{problem}", WRONG_USAGE)

    if text.lstrip().startswith("["):
        try:
            found = json.loads(text)
        except (ValueError, RecursionError) as error:
            bad("", error)
        numbered = list(enumerate(found, 1))
    else:
        numbered = []
        # A text of JSON may have what Python takes for the end of a line, but for this one.
        for number, line in enumerate(text.split("\n"), 1):
            try:
                numbered += [(number, json.loads(line))] if line.strip() else []
            except (ValueError, RecursionError) as error:
                bad(f"line {number}: ", error)
    for number, entry in numbered:
        if not isinstance(entry, dict):
            bad(f"entry {number}: ", "expected a JSON object of inputs")
    return [entry for _, entry in numbered]


def _with_media(entry: Mapping[str, Any], definition: Definition, path: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in entry.items():
        if _is_media(name, definition) and isinstance(value, str):
            found[name] = _file(f"--each {path}", name, value, path.parent)
        else:
            found[name] = value
    return found


def _axis(given: str, name: str, text: str, definition: Definition) -> Any:
    word, colon, rest = text.partition(":")
    if word == "set" and colon:
        return {"set": rest}
    if word == "seeds" and colon:
        if not (rest.isascii() and rest.isdigit()):
            stop(f"--grid {given}: expected seeds:NUMBER", WRONG_USAGE)
        return {"seeds": int(rest)}
    ranged = _RANGE.fullmatch(text)
    if ranged is not None:
        ends = {"from": ranged["start"], "to": ranged["to"], "step": ranged["step"] or "1"}
        try:
            return {end: json.loads(number) for end, number in ends.items()}
        except ValueError:
            stop(f"--grid {given}: expected FROM..TO or FROM..TO:STEP, in numbers", WRONG_USAGE)
    values = next(csv.reader([text]))
    if _is_media(name, definition):
        return [_file(f"--grid {given}", name, each, Path()) for each in values]
    return values


def _is_media(name: str, definition: Definition) -> bool:
    return "contentMediaType" in definition.inputs["properties"].get(name, {})


def _file(given: str, name: str, value: str, folder: Path) -> Path:
    path = folder / value.removeprefix("@")
    if not path.is_file():
        stop(f"{given}: {name}: {str(path)!r} is no file", WRONG_USAGE)
    return path
