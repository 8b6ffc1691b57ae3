"""The simulation: `python -m tests.simulation [SCENARIO ...]` prints Markdown tables.

With `--write` they go into docs/scale.md, and the plots into docs/images. A thousand bridges take
some minutes on two cores. The same seed gives the same figures.
"""

from __future__ import annotations

import statistics
import zlib
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import click
from msgspec import Struct

from tests.simulation import plot
from tests.simulation.database import Costs
from tests.simulation.figures import (
    JOBS_A_SECOND,
    Spread,
    ask_at_random,
    busy,
    eta_ratios,
    jain,
    keep_asking,
    longest_gap_s,
    position_errors,
    turns,
)
from tests.simulation.fleet import Claims, Fleet

GPUS_EACH = 10
PAGE = Path(__file__).parents[2] / "docs" / "scale.md"
IMAGES = PAGE.parent / "images"

# One journal: how it grows.
BRIDGES = (1, 2, 5, 10, 20, 50, 100, 200, 400, 600, 700, 800, 1000)
LOAD = 0.8
_CLIENTS = 200

# Many journals: a thousand bridges.
JOURNALS, BRIDGES_EACH, ALL_CLIENTS = 50, 20, 2000
_FILMS_AT = 0.75
_SETTLED_S, _LOST_AT_S, _UNTIL_S, _DRAINED_S = 40.0, 200.0, 400.0, 3000.0
_SLICE_S = 5.0
_FAIR_OVER_S = 60.0
_FAIR_AT_S = range(100, 401, 20)


# Claims that do not wait.
_CLAIMS_AT = (20, 100, 400, 600)
_CLAIMS: Mapping[Claims, str] = {
    "wait": "for its client's lock",
    "try": "not: the next transaction tries again",
    "skip": "not, and locks the job's row alone",
}


class Grown(Struct, frozen=True):
    """One journal with so many bridges."""

    bridges: int
    claims: Claims
    asked_per_s: float
    ended_per_s: float
    answer_ms: Spread
    start_s: Spread
    claims_lost: float
    claims_again: float
    server: float
    server_ms: float
    alone: float
    beat_s: float


def grow(bridges: int, claims: Claims = "wait") -> Grown:
    """Run a journal's bridges at a load that their ComfyUIs can carry."""
    # Of many bridges a short time has as many jobs.
    seconds = 120.0 if bridges <= 50 else 60.0 if bridges <= 400 else 30.0
    fleet = Fleet(bridges, GPUS_EACH, costs=Costs(), claims=claims)
    asked = LOAD * bridges * GPUS_EACH * JOBS_A_SECOND
    ask_at_random(fleet, _CLIENTS, asked, seconds)
    fleet.run(seconds)
    half = [each for each in fleet.records.values() if each.accepted > seconds / 4]
    started = [each.starts[0] - each.asked for each in half if each.starts]
    jobs = len(fleet.records)
    return Grown(
        bridges=bridges,
        claims=claims,
        asked_per_s=asked,
        ended_per_s=fleet.started / seconds,
        answer_ms=Spread.of([1000 * (each.accepted - each.asked) for each in half]),
        start_s=Spread.of(started),
        claims_lost=fleet.claims_lost / jobs,
        claims_again=fleet.claims_again / jobs,
        server=fleet.database.used_s / seconds / fleet.database.costs.cores,
        server_ms=1000 * fleet.database.used_s / jobs,
        alone=fleet.database.alone_s / seconds,
        beat_s=fleet.longest_beat_s,
    )


class Lived(Struct, frozen=True):
    """One of many journals, of whose bridges a tenth was lost."""

    turns: dict[str, int]
    turns_after: dict[str, int]
    fairness: list[tuple[float, float]]
    gap_s: float
    busy: float
    positions: list[float]
    etas: list[float]
    again_s: list[float]
    intake_s: float
    per_slice: list[int]
    jobs: int
    unended: int


def live(task: tuple[int, dict[str, int]]) -> Lived:
    """Run a journal's bridges under more load than they can carry, and kill a tenth of them."""
    seed, clients = task
    fleet = Fleet(BRIDGES_EACH, GPUS_EACH, costs=Costs(), seed=seed, films_at=_FILMS_AT)
    keep_asking(fleet, clients, _UNTIL_S)
    fleet.run(_LOST_AT_S)
    fleet.kill(BRIDGES_EACH // 10)
    fleet.run(_UNTIL_S)
    share = busy(fleet)
    fleet.run(_DRAINED_S)
    records = list(fleet.records.values())
    settled = [each for each in records if _SETTLED_S < each.accepted < _LOST_AT_S]
    slices = Counter(int(start // _SLICE_S) for each in records for start in each.starts)
    waited = [each.accepted - each.asked for each in records if each.asked >= _LOST_AT_S]
    return Lived(
        turns=dict(turns(fleet, _SETTLED_S, _LOST_AT_S)),
        turns_after=dict(turns(fleet, _LOST_AT_S, _UNTIL_S)),
        fairness=[(end, _fairness(fleet, clients, end)) for end in _FAIR_AT_S],
        gap_s=longest_gap_s(fleet, _SETTLED_S, _LOST_AT_S),
        busy=share,
        positions=position_errors(settled),
        etas=eta_ratios(settled),
        again_s=[each.starts[-1] - _LOST_AT_S for each in fleet.lost],
        intake_s=max(waited),
        per_slice=[slices[each] for each in range(int(_UNTIL_S // _SLICE_S))],
        jobs=len(records),
        unended=fleet.unended,
    )


def _fairness(fleet: Fleet, clients: Collection[str], end: float) -> float:
    """Return Jain's index of the turns that clients got in the time before."""
    found = turns(fleet, end - _FAIR_OVER_S, end)
    return jain([found[each] for each in clients])


def clients_of(journals: int, clients: int) -> list[dict[str, int]]:
    """Return the clients of each journal, by their names' hash; every tenth asks for ten times."""
    found: list[dict[str, int]] = [{} for _ in range(journals)]
    for number in range(clients):
        name = f"client-{number}"
        found[zlib.crc32(name.encode()) % journals][name] = 200 if number % 10 == 0 else 20
    return found


def _growth(found: Sequence[Grown]) -> str:
    heads = (
        "bridges",
        "jobs a second asked for",
        "started",
        "request to answer, ms",
        "request to start, s: median, a tenth above",
        "claims lost, a job",
        "server's processor",
        "ms of it a job",
        "time that one locks all others out",
        "longest between two heartbeats, s",
    )
    rows = [f"| {' | '.join(heads)} |", f"|{'---:|' * len(heads)}"]
    rows += [
        f"| {each.bridges} | {each.asked_per_s:.1f} | {each.ended_per_s:.1f} | "
        f"{each.answer_ms.median:.1f} | {each.start_s.median:.2f}, {each.start_s.high:.1f} | "
        f"{each.claims_lost:.2f} | {each.server:.1%} | {each.server_ms:.1f} | {each.alone:.1%} | "
        f"{each.beat_s:.1f} |"
        for each in found
    ]
    return "\n".join(rows)


def _claimed(found: Sequence[Grown]) -> str:
    heads = (
        "bridges",
        "a claim waits",
        "jobs a second asked for",
        "started",
        "request to answer, ms",
        "request to start, s: median, a tenth above",
        "claims lost, a job",
        "tried again",
        "ms of the server's a job",
    )
    rows = [f"| {' | '.join(heads)} |", f"|---:|---|{'---:|' * (len(heads) - 2)}"]
    rows += [
        f"| {each.bridges} | {_CLAIMS[each.claims]} | {each.asked_per_s:.1f} | "
        f"{each.ended_per_s:.1f} | {each.answer_ms.median:.1f} | "
        f"{each.start_s.median:.2f}, {each.start_s.high:.1f} | {each.claims_lost:.2f} | "
        f"{each.claims_again:.2f} | {each.server_ms:.1f} |"
        for each in found
    ]
    return "\n".join(rows)


def _fleet(found: Sequence[Lived]) -> str:
    all_turns = Counter[str]()
    for each in found:
        all_turns.update(each.turns)
    bridges = len(found) * BRIDGES_EACH
    gpus = bridges * GPUS_EACH
    started = sum(all_turns.values()) / (_LOST_AT_S - _SETTLED_S)
    within = [jain(list(each.turns.values())) for each in found]
    after = [jain(list(each.turns_after.values())) for each in found]
    again = Spread.of([seconds for each in found for seconds in each.again_s])
    etas = Spread.of([ratio for each in found for ratio in each.etas])
    positions = Spread.of([error for each in found for error in each.positions])
    sizes = [len(each.turns) for each in found]
    rows = {
        "bridges, GPUs": f"{bridges:,}, {gpus:,}",
        "journals, clients": f"{len(found)}, {len(all_turns):,}",
        "jobs that ended": f"{sum(each.jobs - each.unended for each in found):,}",
        "jobs that were lost": f"{sum(each.unended for each in found)}",
        f"jobs started a second, from {_SETTLED_S:.0f} s to the loss": f"{started:.0f}",
        "the same if no GPU ever had to load a model": f"{gpus * JOBS_A_SECOND:.0f}",
        "share of their time that GPUs were busy": f"{_mean([each.busy for each in found]):.1%}",
        "Jain's index of the clients of one journal": f"{min(within):.3f} to {max(within):.3f}",
        "after the loss": f"{min(after):.3f} to {max(after):.3f}",
        "Jain's index of all clients": f"{jain(list(all_turns.values())):.3f}",
        "clients that a journal has": f"{min(sizes)} to {max(sizes)}",
        "longest time between two turns of a client": f"{max(e.gap_s for e in found):.0f} s",
        "requests are answered again, after the loss": f"{max(e.intake_s for e in found):.1f} s",
        "jobs of lost bridges run again": f"{_seconds(again)}",
        "jobs that started before one, beyond its position": _spread(positions, ".0f"),
        "time until the end, over the `eta_s` of the first status": _spread(etas, ".2f"),
    }
    return "\n".join(
        ("| | |", "|---|---:|", *(f"| {what} | {is_} |" for what, is_ in rows.items()))
    )


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _seconds(found: Spread) -> str:
    return f"{found.median:.0f} s; a tenth after {found.high:.0f} s, the last {found.most:.0f} s"


def _spread(found: Spread, digits: str) -> str:
    return f"{found.median:{digits}}; {found.low:{digits}} to {found.high:{digits}}"


def _grown(found: Sequence[Grown]) -> str:
    return plot.lines(
        {
            "request to answer, ms": [(each.bridges, each.answer_ms.median) for each in found],
            "server's processor a job, ms": [(each.bridges, each.server_ms) for each in found],
            "request to start, tenth above, ms": [
                (each.bridges, 1000 * each.start_s.high) for each in found if each.start_s.high
            ],
        }
    )


def _lost(found: Sequence[Lived]) -> str:
    sums = [sum(each) for each in zip(*(lived.per_slice for lived in found), strict=True)]
    rates = [(index * _SLICE_S, each / _SLICE_S) for index, each in enumerate(sums)]
    points = [each for each in rates if each[0] >= _SETTLED_S]
    what = "jobs started a second; a tenth of the bridges is lost"
    return plot.over({what: points}, "s", _LOST_AT_S)


def _fair(found: Sequence[Lived]) -> str:
    times = list(zip(*(lived.fairness for lived in found), strict=True))
    each = [(at[0][0], sorted(index for _, index in at)) for at in times]
    return plot.over(
        {
            f"Jain's index of a journal's clients over {_FAIR_OVER_S:.0f} s, median of the "
            "journals": [(at, indices[len(indices) // 2]) for at, indices in each],
            "that of the least fair journal": [(at, indices[0]) for at, indices in each],
        },
        "s",
        _LOST_AT_S,
    )


def _etas(found: Sequence[Lived]) -> str:
    ratios = statistics.quantiles([ratio for each in found for ratio in each.etas], n=100)
    shares = [(float(percent), ratio) for percent, ratio in enumerate(ratios, 1)]
    what = "time until the end over the `eta_s` of the first status: at most, for so many jobs"
    return plot.over({what: shares[:95]}, "%")


@click.command()
@click.argument("scenarios", nargs=-1, type=click.Choice(["growth", "claims", "fleet"]))
@click.option("--write", is_flag=True, help="Into docs/scale.md and docs/images.")
@click.option("--processes", default=2, show_default=True)
def main(scenarios: Sequence[str], *, write: bool, processes: int) -> None:
    """Simulate one journal that grows, and a thousand bridges on fifty."""
    with ProcessPoolExecutor(processes) as pool:
        if not scenarios or "growth" in scenarios:
            grown = [*pool.map(grow, reversed(BRIDGES))][::-1]  # what takes longest first
            _show("growth", _growth(grown), {"growth": _grown(grown)}, write=write)
        if not scenarios or "claims" in scenarios:
            tries = [(bridges, claims) for bridges in reversed(_CLAIMS_AT) for claims in _CLAIMS]
            tried = pool.map(grow, *zip(*tries, strict=True))
            _show("claims", _claimed(sorted(tried, key=lambda each: each.bridges)), {}, write=write)
        if not scenarios or "fleet" in scenarios:
            tasks = enumerate(clients_of(JOURNALS, ALL_CLIENTS))
            lived = list(pool.map(live, tasks))
            plots = {"fleet": _lost(lived), "fairness": _fair(lived), "eta": _etas(lived)}
            _show("fleet", _fleet(lived), plots, write=write)


def _show(name: str, table: str, plots: Mapping[str, str], *, write: bool) -> None:
    click.echo(f"{table}\n")
    if write:
        begin, end = f"<!-- {name} -->\n", f"\n<!-- end of {name} -->"
        before, _, rest = PAGE.read_text().partition(begin)
        _, _, after = rest.partition(end)
        PAGE.write_text(f"{before}{begin}\n{table}\n{end}{after}")
        for plotted, drawn in plots.items():
            (IMAGES / f"scale-{plotted}.svg").write_text(drawn)


if __name__ == "__main__":
    main()
