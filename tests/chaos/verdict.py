"""The outcome of every job, compared with what was promised."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from msgspec import Struct

from bridge.jobs.core.book import UNWRITTEN_MAX
from bridge.jobs.core.pool import JOBS_AT_COMFYUI
from tests.chaos.customers import OUTCOMES, Customer

# Files in the world's folder: what ComfyUI ran, and the folder that outputs are delivered to.
TALLY, DELIVERED = "tally", "delivered"


class Verdict(Struct):
    """Counts, and in `broken` every promise that was not kept."""

    accepted: int
    succeeded: int
    # Answers that the disk is full and the like.
    refused: int
    # Requests without a job id, published once: refused, or lost by a broker that died.
    not_accepted: int
    # The same, that the client library sent again: to the bridge those are two.
    sent_twice: int
    results_more_than_once: int
    ran_twice: int
    ran_twice_at_most: int
    faults: dict[str, int]
    broken: list[str]
    # How often a death may have come between a job's end and the note of it: then it runs again.
    deaths: int = 0
    # How often another bridge began to take the requests.
    intake_moves: int = 0
    # Of objects into the bucket, where there is one, attempts that failed among them.
    puts: int = 0
    # Each bridge's resident bytes at the end.
    memory: dict[str, int] = {}


async def judge(
    customers: list[Customer], folder: Path, faults: Counter[str], deaths: int
) -> Verdict:
    """Compare what the customers got, what the bridge lists, what ComfyUI ran, and the sink."""
    ran = Counter((await asyncio.to_thread(_read, folder / TALLY)).split())
    delivered = await asyncio.to_thread(_digests, folder / DELIVERED)
    verdict = Verdict(0, 0, 0, 0, 0, 0, 0, 0, dict(faults), [])
    for customer in customers:
        listed = await customer.collect()
        _judge(customer, listed, ran, verdict)
        # One that died may have lost what it acknowledged, and send again what it had passed on.
        if not faults["broker killed"]:
            verdict.broken += [f"{customer.name}: {what}" for what in _sent_once(customer, listed)]
        broken = _sink(customer, listed, delivered)
        verdict.broken += [f"{customer.name}: {what}" for what in broken]
    verdict.ran_twice = sum(count > 1 for count in ran.values())
    verdict.deaths = deaths
    # While the bucket is away the outcomes of a few more are in memory alone.
    unwritten = UNWRITTEN_MAX * min(deaths, faults["bucket away"])
    verdict.ran_twice_at_most = JOBS_AT_COMFYUI * deaths + unwritten
    if verdict.ran_twice > verdict.ran_twice_at_most:
        verdict.broken.append(f"{verdict.ran_twice} jobs ran twice")
    return verdict


def _read(tally: Path) -> str:
    return tally.read_text() if tally.exists() else ""


def _digests(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each file below a folder, by its path there."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def _judge(customer: Customer, listed: dict[str, Any], ran: Counter[str], verdict: Verdict) -> None:
    verdict.accepted += len(listed)
    verdict.succeeded += sum(job["state"] == "succeeded" for job in listed.values())
    unnamed = _unnamed(customer, listed)
    verdict.sent_twice += sum(count > 1 for count in unnamed.values())
    verdict.refused += len(customer.refused)
    verdict.not_accepted += customer.unnamed - len(unnamed)
    verdict.results_more_than_once += sum(len(each) > 1 for each in customer.copies.values())
    who = f"{customer.name} (MQTT {customer.version}): "
    for check in (
        _outcomes(customer, listed, ran),
        _requests(customer, listed),
        _results(customer, listed),
        _sets(customer),
        _acks(customer, listed),
    ):
        verdict.broken += [who + what for what in check]


def _unnamed(customer: Customer, listed: dict[str, Any]) -> Counter[str]:
    """Return how many jobs each request without a job id became, by its tag."""
    return Counter(
        job["meta"]["tag"] for job_id, job in listed.items() if job_id not in customer.wanted
    )


def _sent_once(customer: Customer, listed: dict[str, Any]) -> Iterator[str]:
    """A request without a job id that was sent once is one job, however often it is redelivered."""
    found = _unnamed(customer, listed)
    for tag, count in found.items():
        if count > 1 and tag not in customer.sent_again:
            yield f"{tag} was sent once and became {count} jobs"
    lost = customer.sent - found.keys()
    if len(lost) > len(customer.refused):
        yield f"acknowledged by the broker, neither accepted nor refused: {sorted(lost)}"


def _outcomes(customer: Customer, listed: dict[str, Any], ran: Counter[str]) -> Iterator[str]:
    for job_id, job in listed.items():
        if job["state"] not in OUTCOMES:
            yield f"{job_id} has no outcome but is {job['state']}"
        elif job["state"] != "succeeded":
            yield f"{job_id} {job['state']}: {job.get('result', {}).get('error')}"
        elif not ran[customer.wanted.get(job_id, job["meta"]["tag"])]:
            yield f"{job_id} succeeded but never ran"


def _requests(customer: Customer, listed: dict[str, Any]) -> Iterator[str]:
    for job_id in customer.accepted - listed.keys():
        yield f"{job_id} was accepted and is not known any more"
    for job_id in customer.wanted.keys() - listed.keys():
        yield f"{job_id} was asked for again and again and is not there"
    for error in customer.refused:
        if error["code"] not in ("busy", "comfyui_unavailable"):
            yield f"refused: {error}"


def _results(customer: Customer, listed: dict[str, Any]) -> Iterator[str]:
    for job_id, copies in customer.copies.items():
        if len(set(copies)) > 1:
            yield f"{job_id} has {len(set(copies))} different results"
        if job_id in listed and json.loads(copies[0]) != listed[job_id].get("result"):
            yield f"{job_id}: the result that came is not the one that is listed"
    for job_id in customer.missing:
        yield f"{job_id}: its result never came"


def _sets(customer: Customer) -> Iterator[str]:
    for set_id, copies in customer.set_copies.items():
        if len(set(copies)) > 1:
            yield f"set {set_id} has {len(set(copies))} different results"
        result = json.loads(copies[0])
        if result["state"] != "succeeded":
            yield f"set {set_id} {result['state']}: {result['counts']}"
        if [each["job_id"] for each in result["jobs"]] != customer.sets[set_id]:
            yield f"set {set_id} has other jobs than it was asked for"


def _sink(customer: Customer, listed: dict[str, Any], delivered: dict[str, str]) -> Iterator[str]:
    """The output of each job that succeeded is where its result says, whole."""
    for job_id, job in listed.items():
        result = job.get("result")
        if job["state"] != "succeeded" or result is None:
            continue
        name = f"{customer.name}/{job_id}"
        if result.get("delivered") != [{"output": 0, "url": f"folder:all/{name}"}]:
            yield f"{job_id}: its output was not delivered: {result.get('delivered')}"
        elif delivered.get(name) != result["outputs"][0]["sha256"]:
            yield f"{job_id}: its output is not at the sink, or is another"


def _acks(customer: Customer, listed: dict[str, Any]) -> Iterator[str]:
    """Nothing is acked that it was not sent."""
    for job_id, job in listed.items():
        if job.get("acked") and job_id not in customer.copies.keys() | customer.listed:
            yield f"{job_id} was acked unheard"
