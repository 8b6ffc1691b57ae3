"""The bench: `python -m tests.bench [ROW ...]`.

Prints one Markdown table, and writes the same with every round's figures as JSON into build/bench,
which is not part of the repository. What happens meanwhile goes to standard error.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import click
import msgspec

from tests.bench.machine import describe
from tests.bench.report import Report, Row, markdown
from tests.bench.stand import Measurement, Stand
from tests.bench.suite import SUITE
from tests.support.comfyui import Server, supervised

FOLDER = Path(__file__).parents[2] / "build" / "bench"
ROUNDS = 5
INTERRUPTED = 130

_BY_NAME = {measurement.name: measurement for measurement in SUITE}
_CHOICES = "\n".join(f"  {name:10} {each.about}" for name, each in _BY_NAME.items())


@click.command(epilog=f"\b\nRows:\n{_CHOICES}")
@click.argument("rows", nargs=-1, type=click.Choice(list(_BY_NAME)))
@click.option("--rounds", default=ROUNDS, type=click.IntRange(1), show_default=True)
@click.option("--json", "file", type=click.Path(path_type=Path), help="Where the JSON goes.")
def main(rows: Sequence[str], rounds: int, file: Path | None) -> None:
    """Measure the bridge beside a direct client of the same ComfyUI; all rows by default."""
    chosen = [_BY_NAME[name] for name in _BY_NAME if not rows or name in rows]
    at = datetime.now(UTC).replace(microsecond=0)
    FOLDER.mkdir(parents=True, exist_ok=True)
    try:
        with (
            tempfile.TemporaryDirectory(prefix="run-", dir=FOLDER) as folder,
            _comfyui(Path(folder), wanted=any(each.comfyui for each in chosen)) as server,
        ):
            stand = Stand(Path(folder), server, rounds, _tell)
            report = asyncio.run(_report(stand, server, chosen, at))
    except KeyboardInterrupt:
        _tell("interrupted; everything is stopped")
        sys.exit(INTERRUPTED)
    file = file or FOLDER / f"{at:%Y%m%d-%H%M%S}.json"
    file.write_bytes(msgspec.json.format(msgspec.json.encode(report)))
    click.echo(markdown(report))
    _tell(f"the same as JSON: {file}")


@contextmanager
def _comfyui(folder: Path, *, wanted: bool) -> Iterator[Server | None]:
    """Run a ComfyUI, outside of any event loop: so Ctrl-C ends its start as well."""
    if not wanted:
        yield None
        return
    _tell("starting ComfyUI")
    server = Server(supervised(), folder / "comfyui")
    try:
        server.start()
        yield server
    finally:
        server.stop()


async def _report(
    stand: Stand, server: Server | None, chosen: Sequence[Measurement], at: datetime
) -> Report:
    machine = await describe(server)
    if machine.load > machine.cores:
        _tell(f"the machine is busy (load {machine.load:.1f}): trust the ratios only, and not much")
    rows: list[Row] = []
    for measurement in chosen:
        _tell(f"{measurement.name}: {measurement.about}")
        rows += await measurement.measure(stand)
    return Report(at.isoformat(), machine, stand.rounds, rows)


def _tell(line: str) -> None:
    click.echo(line, err=True)


if __name__ == "__main__":
    main()
