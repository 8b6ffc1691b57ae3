"""The bench: `python -m tests.bench [ROW ...]`.

Prints one Markdown table, and writes the same with every round's figures as JSON into build/bench,
which is not part of the repository. What happens meanwhile goes to standard error. A measurement
that fails costs its own rows alone, and the exit status.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import click
import msgspec

from tests.bench.machine import describe
from tests.bench.plot import svg
from tests.bench.report import Report, Row, markdown, put
from tests.bench.stand import CHECKPOINTS, Measurement, Stand
from tests.bench.suite import SUITE
from tests.support.comfyui import Server, supervised

FOLDER = Path(__file__).parents[2] / "build" / "bench"
PLOT = Path("images") / "scale.svg"
ROUNDS = 5
INTERRUPTED = 130

_BY_NAME = {measurement.name: measurement for measurement in SUITE}
_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_CHOICES = "\n".join(f"  {name:10} {each.about}" for name, each in _BY_NAME.items())


@click.command(epilog=f"\b\nRows:\n{_CHOICES}")
@click.argument("rows", nargs=-1, type=click.Choice(list(_BY_NAME)))
@click.option("--rounds", default=ROUNDS, type=click.IntRange(1), show_default=True)
@click.option("--json", "file", type=click.Path(path_type=Path), help="Where the JSON goes.")
@click.option("--of", type=_FILE, help="Measure nothing: take a run's JSON.")
@click.option("--write", type=_FILE, help="A page to put the table into, and its plot beside it.")
def main(
    rows: Sequence[str], rounds: int, file: Path | None, of: Path | None, write: Path | None
) -> None:
    """Measure the bridge beside a direct client of the same ComfyUI; all rows by default."""
    if of is None:
        report = _measure(rows, rounds, file)
    else:
        report = msgspec.json.decode(of.read_bytes(), type=Report)
    click.echo(markdown(report))
    if write is not None:
        _write(report, write)
    sys.exit(bool(report.failed))


def _measure(rows: Sequence[str], rounds: int, file: Path | None) -> Report:
    chosen = [_BY_NAME[name] for name in _BY_NAME if not rows or name in rows]
    at = datetime.now(UTC).replace(microsecond=0)
    FOLDER.mkdir(parents=True, exist_ok=True)
    try:
        with (
            tempfile.TemporaryDirectory(prefix="run-", dir=FOLDER) as folder,
            _comfyui(Path(folder), wanted=any(each.comfyui for each in chosen)) as server,
        ):
            stand = Stand(Path(folder), server, rounds, _print)
            report = asyncio.run(_report(stand, server, chosen, at))
    except KeyboardInterrupt:
        _print("interrupted; everything is stopped")
        sys.exit(INTERRUPTED)
    file = file or FOLDER / f"{at:%Y%m%d-%H%M%S}.json"
    file.write_bytes(msgspec.json.format(msgspec.json.encode(report)))
    _print(f"all figures as JSON: {file}")
    return report


def _write(report: Report, page: Path) -> None:
    """Put table and plot where people read them."""
    page.write_text(put(page.read_text(), markdown(report)))
    plotted = [row for row in report.rows if row.points]
    if plotted:
        (page.parent / PLOT).write_text(svg(plotted))


@contextmanager
def _comfyui(folder: Path, *, wanted: bool) -> Iterator[Server | None]:
    """Run a ComfyUI, outside of any event loop: so Ctrl-C ends its start as well."""
    if not wanted:
        yield None
        return
    _print("starting ComfyUI")
    (folder / CHECKPOINTS).mkdir()
    paths = folder / "paths.json"  # which is YAML, as ComfyUI wants it
    paths.write_bytes(msgspec.json.encode({"bench": {"checkpoints": str(folder / CHECKPOINTS)}}))
    config = supervised()
    args = (*config.args, "--extra-model-paths-config", str(paths))
    server = Server(msgspec.structs.replace(config, args=args), folder / "comfyui")
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
        _print(
            f"the machine is busy (load {machine.load:.1f}): trust the ratios only, and not much"
        )
    rows: list[Row] = []
    rounds = stand.rounds
    failed: dict[str, str] = {}
    for measurement in chosen:
        began = time.monotonic()
        _print(f"{measurement.name}: {measurement.about}")
        stand.rounds = min(rounds, measurement.rounds)
        try:
            rows += await measurement.measure(stand)
        except Exception as error:  # noqa: BLE001 - the others' figures are good nevertheless
            failed[measurement.name] = f"{type(error).__name__}: {error}".partition("\n")[0]
            traceback.print_exc()
        _print(f"{measurement.name} took {time.monotonic() - began:.0f} s")
    return Report(at.isoformat(), machine, rounds, rows, failed)


def _print(line: str) -> None:
    click.echo(line, err=True)


if __name__ == "__main__":
    main()
