"""The unfinished work, by the models it needs, to tell how many GPUs it is worth. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from msgspec import Struct
from msgspec.structs import replace

from bridge.contract.messages import State
from bridge.workflows.catalogue import Needs

# What a run is expected to take while no workflow has ended once: what waits counts for something,
# or nothing would ever be started for it.
UNKNOWN_RUN_S = 30.0
# How many kinds of work are listed: those with the most jobs. The others are added up.
MAX_KINDS = 200
OTHERS = "others"


class Work(Struct, frozen=True, kw_only=True):
    """The jobs of a workflow that load the same models; `models` are the files, sorted.

    `waiting` are those whose input is not here yet, and `queued_s` is how many seconds the queued
    ones will run, all together.
    """

    workflow: str
    models: tuple[str, ...] = ()
    queued: int = 0
    queued_s: float = 0.0
    running: int = 0
    waiting: int = 0

    @classmethod
    def total(cls, kinds: Sequence[Work], workflow: str = "") -> Work:
        """Add up several kinds of work, under one name."""
        return cls(
            workflow=workflow,
            queued=sum(each.queued for each in kinds),
            queued_s=round(sum(each.queued_s for each in kinds), 3),
            running=sum(each.running for each in kinds),
            waiting=sum(each.waiting for each in kinds),
        )


class Backlog(Struct, frozen=True):
    """All work of a group of bridges (or of one bridge), the largest kinds first."""

    members: int
    kinds: list[Work]

    def of(self, workflows: Collection[str] = (), models: Collection[str] = ()) -> list[Work]:
        """Return the work of these workflows that loads one of these models; empty: of any."""
        return [
            each
            for each in self.kinds
            if (not workflows or each.workflow in workflows)
            and (not models or not set(models).isdisjoint(each.models))
        ]


def backlog(
    counts: Iterable[tuple[str, Needs, State, int]], run_s: Mapping[str, float], members: int
) -> Backlog:
    """Return the backlog of jobs, counted by workflow, needs and state.

    `run_s` are the seconds that a run takes, by workflow. One that has not run yet is expected to
    take as long as the others do on average.
    """
    unknown_s = sum(run_s.values()) / len(run_s) if run_s else UNKNOWN_RUN_S
    found: dict[tuple[str, tuple[str, ...]], Work] = {}
    for workflow, needs, state, count in counts:
        kind = workflow, tuple(sorted(set(needs.models)))
        work = found.get(kind) or Work(workflow=workflow, models=kind[1])
        match state:
            case "queued":
                seconds = count * run_s.get(workflow, unknown_s)
                work = replace(work, queued=work.queued + count, queued_s=work.queued_s + seconds)
            case "running":
                work = replace(work, running=work.running + count)
            case "waiting":
                work = replace(work, waiting=work.waiting + count)
            case _:
                continue
        found[kind] = work
    kinds = sorted(found.values(), key=lambda each: (-each.queued_s, each.workflow, each.models))
    return Backlog(members, list(_bounded(kinds)))


def _bounded(kinds: list[Work]) -> Iterator[Work]:
    yield from kinds[:MAX_KINDS]
    if len(kinds) > MAX_KINDS:
        yield Work.total(kinds[MAX_KINDS:], OTHERS)
