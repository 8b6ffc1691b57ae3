from __future__ import annotations

import pytest

from bridge.jobs.backlog import MAX_KINDS, OTHERS, UNKNOWN_RUN_S, Work, backlog
from bridge.jobs.journal import Journal
from bridge.workflows.catalogue import Needs
from tests.jobs.drafts import draft, waits_for_a_job
from tests.jobs.members import Member
from tests.support.postgresql import PostgreSQL


def loads(*models: str) -> Needs:
    return Needs(("Loader",), tuple(("Loader", "file", model) for model in models))


A, B = loads("a.safetensors"), loads("b.safetensors", "b-vae.safetensors")


def test_work_is_counted_by_workflow_and_models_with_the_seconds_that_it_will_run() -> None:
    found = backlog(
        [
            ("photo", A, "queued", 2),
            ("photo", A, "running", 1),
            ("photo", B, "queued", 1),
            ("photo", Needs((*B.classes, "Other"), B.choices), "queued", 1),  # the same models
            ("film", A, "waiting", 3),
            ("film", A, "succeeded", 9),
        ],
        {"photo": 10.0, "film": 120.0},
        members=2,
    )
    assert found.members == 2
    assert found.kinds == [
        Work(workflow="photo", models=("a.safetensors",), queued=2, queued_s=20.0, running=1),
        Work(
            workflow="photo", models=("b-vae.safetensors", "b.safetensors"), queued=2, queued_s=20.0
        ),
        Work(workflow="film", models=("a.safetensors",), waiting=3),
    ]
    assert Work.total(found.of()).queued_s == 40.0
    assert Work.total(found.of(workflows=["photo"], models=["b.safetensors"])).queued == 2
    assert Work.total(found.of(models=["a.safetensors"])).waiting == 3
    assert found.of(workflows=["unknown"]) == []


def test_a_workflow_that_never_ran_counts_as_the_others_do_on_average() -> None:
    new = [("new", A, "queued", 2)]
    assert backlog(new, {"a": 10.0, "b": 20.0}, 1).kinds[0].queued_s == 30.0  # type: ignore[arg-type]
    assert backlog(new, {}, 1).kinds[0].queued_s == 2 * UNKNOWN_RUN_S  # type: ignore[arg-type]


def test_a_flood_of_kinds_makes_no_flood_of_figures_and_none_of_the_work_is_left_out() -> None:
    flood = [("w", loads(f"{number}.safetensors"), "queued", 1) for number in range(MAX_KINDS + 5)]
    found = backlog([("big", A, "queued", 9), *flood], {"w": 1.0, "big": 1.0}, 1)  # type: ignore[list-item]
    assert len(found.kinds) == MAX_KINDS + 1
    assert found.kinds[0].workflow == "big"
    assert (found.kinds[-1].workflow, found.kinds[-1].queued) == (OTHERS, 6)
    assert Work.total(found.of()).queued == MAX_KINDS + 5 + 9


async def test_the_journal_counts_what_has_not_ended(journal: Journal) -> None:
    for number in range(3):
        await journal.accept(draft(f"j{number}", needs=A), 1.0)
    await journal.accept(draft("later", needs=A, plan=waits_for_a_job("j0")), 1.0)
    job = (await journal.accept(draft("r", needs=B), 1.0)).record.job
    job.state = "running"
    await journal.started(job)
    found = {(each.workflow, each.models): each for each in (await journal.backlog()).kinds}
    queued = found["demo", ("a.safetensors",)]
    assert (queued.queued, queued.waiting, queued.running) == (3, 1, 0)
    # A mark that a job has started may follow a moment later.
    other = found["demo", ("b-vae.safetensors", "b.safetensors")]
    assert other.queued + other.running == 1


@pytest.mark.postgresql
async def test_members_agree_on_the_backlog_and_on_how_many_they_are(
    postgresql: PostgreSQL,
) -> None:
    with postgresql.database() as address:
        a, b = Member(address, "a"), Member(address, "b")
        for each in (a, b):
            await each.journal.open()
            await each.join()
        await a.accept("one")
        job = await b.accept("two")
        assert await b.journal.claim(job)
        job.state = "running"
        await b.journal.started(job)
        found = await a.journal.backlog()
        assert found == await b.journal.backlog()
        assert found.members == 2
        assert [(each.queued, each.running) for each in found.kinds] == [(1, 1)]
        await b.journal.leave()
        assert (await a.journal.backlog()).members == 1
        for each in (a, b):
            await each.journal.close()
