"""A set as it is kept, and each of its jobs."""

from __future__ import annotations

import msgspec
from msgspec.structs import replace

from bridge.contract.sources import JobOutput
from bridge.jobs.job import Blob, Envelope, MediaInput, Plan
from bridge.jobs.queue import Key
from bridge.jobs.sets.plan import Patch, SetSpec, difference, patched, shown_by
from bridge.workflows.catalogue import Needs
from tests.jobs.drafts import PLAN

BLOB = Blob("ab", 2, "image/png", "png")


def media(name: str, *items: Blob | JobOutput) -> MediaInput:
    return MediaInput(name, "image", "1", name, "media", list(items))


def plan(**inputs: object) -> Plan:
    prompt = {
        "1": {"class_type": "Sampler", "inputs": {"model": ["2", 0], **inputs}},
        "2": {"class_type": "Loader", "inputs": {"ckpt": "a"}},
    }
    names = {f"1.{name}": name for name in inputs}
    return Plan(prompt, dict(inputs), names, [])


def spec(*axes: list[Patch], base: Plan = PLAN) -> SetSpec:
    return SetSpec(
        b"same", "demo", "v1", Envelope(response_topic="r", correlation=b"c"), base, [*axes]
    )


def test_a_difference_put_upon_the_base_gives_the_other_plan() -> None:
    base = replace(plan(steps=1, seed=2), media=[media("image", BLOB)])
    others = [
        plan(steps=1, seed=3),
        plan(steps=9, seed=2),
        plan(steps=1, seed=2, cfg=7.5),
        replace(plan(steps=1, seed=2), media=[media("image", JobOutput("j1"))]),
        replace(base, media=[media("image", BLOB), media("mask", BLOB)]),
        base,
    ]
    before = msgspec.json.encode(base)
    for other in others:
        made = patched(base, difference(base, other))
        assert (made.inputs, made.names | other.names) == (other.inputs, made.names)
        assert made.media == other.media
        assert all(made.prompt[node] == spec for node, spec in other.prompt.items())
    assert msgspec.json.encode(base) == before


def test_a_plan_of_which_an_input_is_gone_has_it_no_more() -> None:
    base = replace(plan(steps=1, cfg=2), media=[media("image", BLOB)])
    other = plan(steps=1)
    made = patched(base, difference(base, other))
    assert (made.inputs, made.media) == ({"steps": 1}, [])


def test_a_grid_keeps_its_entries_and_makes_every_combination() -> None:
    base = plan(steps=1, seed=5)
    steps = [difference(base, plan(steps=each, seed=5)) for each in (1, 2)]
    seeds = [difference(base, plan(steps=1, seed=each)) for each in (5, 6, 7)]
    steps = [replace(each, shown={"steps": at}) for at, each in enumerate(steps, 1)]
    seeds = [replace(each, shown={"seed": at}) for at, each in enumerate(seeds, 5)]
    kept = msgspec.json.decode(msgspec.json.encode(spec(steps, seeds, base=base)), type=SetSpec)
    assert kept.total == 6
    assert [kept.plan(index).inputs for index in range(6)] == [
        {"steps": step, "seed": seed} for step in (1, 2) for seed in (5, 6, 7)
    ]
    assert kept.plan(5).prompt["1"]["inputs"] == {"model": ["2", 0], "steps": 2, "seed": 7}
    assert kept.shown(4) == {"steps": 2, "seed": 6}


def test_its_bytes_are_those_of_all_its_jobs() -> None:
    other = Blob("cd", 2, "image/png", "png")
    base = replace(plan(), media=[media("image", BLOB)])
    found = spec([Patch(), Patch(media=[media("mask", other, JobOutput("j"))])], base=base)
    assert found.blobs == {"ab", "cd"}


def test_a_job_of_a_set_is_one_like_any_other_and_says_whose_it_is() -> None:
    found = spec([Patch(), Patch()])
    made = found.draft(Key("alice", "s1"), 1, PLAN, prompt_id="p", needs=Needs(("A",)))
    assert made.key == Key("alice", "s1-1")
    envelope = made.job.envelope
    assert (envelope.set_id, envelope.set_index) == ("s1", 1)
    # The set's own result is what comes there.
    assert (envelope.response_topic, envelope.correlation) == (None, None)
    assert (made.job.state, made.job.needs) == ("queued", Needs(("A",)))
    first = found.draft(Key("alice", "s1"), 0, PLAN, prompt_id="p", needs=Needs())
    assert first.fingerprint != made.fingerprint


def test_what_is_shown_of_a_job_is_what_was_given_for_it_and_its_seed() -> None:
    plans = [plan(steps=1, seed=1), plan(steps=1, seed=2)]
    assert shown_by([{}, {}], plans) == [{"seed": 1}, {"seed": 2}]
    assert shown_by([{"steps": 1}, {}], plans) == [
        {"steps": 1, "seed": 1},
        {"steps": 1, "seed": 2},
    ]


def test_media_that_is_yet_to_come_is_shown_as_it_was_given() -> None:
    waits = replace(plan(), media=[media("image", JobOutput("j1", 2))])
    assert shown_by([{"image": ...}], [waits]) == [{"image": {"job": "j1", "output": 2}}]
