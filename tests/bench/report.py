"""The bench's result: rows, and from them the Markdown table and the JSON file. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct

from tests.bench.figures import Comparison, Spread

NONE = "-"
_BEGIN, _END = "<!-- table -->", "<!-- end of table -->"
_HEADS = ("what", "ratio", "over the rounds", "aim", "bridge", "reference")
_ALIGNED = ("---", "---:", ":---:", "---", "---:", "---:")


class Aim(Struct, frozen=True):
    """A bound for a row's ratio, or where it has none for its value."""

    bound: float
    at_least: bool = False

    def met(self, figure: float) -> bool:
        """True if a figure keeps to it."""
        return figure >= self.bound if self.at_least else figure <= self.bound

    def text(self, unit: str) -> str:
        """Say it."""
        return f"at {'least' if self.at_least else 'most'} {amount(self.bound, unit)}"


class Row(Struct, frozen=True, kw_only=True):
    """One line of the table: the bridge's value, and where there is one the reference's.

    `points` are for the plot: how many there were, and milliseconds.
    """

    what: str
    unit: str
    value: Spread
    ratio: Spread | None = None
    reference: Spread | None = None
    aim: Aim | None = None
    points: Sequence[tuple[float, float]] = ()

    @classmethod
    def compared(cls, what: str, unit: str, found: Comparison, aim: Aim | None = None) -> Row:
        """Make a row of a comparison; the aim is for its ratio."""
        return cls(
            what=what,
            unit=unit,
            value=found.value,
            ratio=found.ratio,
            reference=found.reference,
            aim=aim,
        )


class Machine(Struct, frozen=True):
    """The machine and the versions; `load` is the number of runnable tasks at the start."""

    processor: str
    cores: int
    system: str
    load: float
    versions: dict[str, str]


class Report(Struct, frozen=True):
    """All of one run; `at` is the time in ISO 8601, `rounds` how many most rows have.

    `failed` are the measurements that gave no rows, and why.
    """

    at: str
    machine: Machine
    rounds: int
    rows: Sequence[Row]
    failed: Mapping[str, str] = {}


def markdown(report: Report) -> str:
    """Return the heading lines and the table."""
    machine = report.machine
    versions = ", ".join(f"{name} {version}" for name, version in machine.versions.items())
    about = (
        f"{report.at}, {machine.processor}, {machine.cores} cores, {machine.system}; "
        f"load {machine.load:.1f} at the start; {report.rounds} rounds, of what takes long fewer.\n"
        f"{versions}."
    )
    lines = [_line(_HEADS), _line(_ALIGNED), *(_line(_cells(row)) for row in report.rows)]
    failed = [f"Not measured: {name}: {why}" for name, why in report.failed.items()]
    return "\n".join((about, "", *lines, "", *failed))


def put(document: str, table: str) -> str:
    """Put a table in a document's place for it. Raises ValueError where there is none."""
    before, begin, rest = document.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not begin or not end:
        raise ValueError(f"no {_BEGIN} and {_END} in it")
    return f"{before}{begin}\n\n{table}\n{end}{after}"


def amount(value: float, unit: str) -> str:
    """Return a figure in three digits or so, with its unit."""
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2
    return f"{value:.{digits}f} {unit}".rstrip()


def _cells(row: Row) -> tuple[str, ...]:
    shown = row.value if row.ratio is None else row.ratio
    unit = row.unit if row.ratio is None else ""
    return (
        row.what,
        NONE if row.ratio is None else f"**{row.ratio.median:.2f}**",
        f"{amount(shown.low, '')} to {amount(shown.high, unit)}",
        NONE if row.aim is None else _aim(row.aim, shown.median, unit),
        amount(row.value.median, row.unit),
        NONE if row.reference is None else amount(row.reference.median, row.unit),
    )


def _aim(aim: Aim, figure: float, unit: str) -> str:
    return aim.text(unit) if aim.met(figure) else f"{aim.text(unit)}: missed"


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"
