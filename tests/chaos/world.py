"""The stack that the chaos happens to, and the customers who use it meanwhile."""

from __future__ import annotations

import asyncio
import json
import random
import shutil
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

from msgspec import Struct

from bridge.mosquitto import Mosquitto
from tests.chaos.bucket import running_bucket
from tests.chaos.customers import Customer
from tests.chaos.faults import STOP_S, Victims, fake_clock
from tests.chaos.leftovers import leftovers, resident
from tests.chaos.verdict import DELIVERED, TALLY, Verdict, judge
from tests.support.bridge import BridgeProcess
from tests.support.comfyui import (
    FAULT_NODES,
    Graph,
    Server,
    image,
    our_output,
    supervised,
    then,
)
from tests.support.postgresql import running_postgresql
from tests.support.tcpproxy import TcpProxy

WORKFLOW = "work"
# After so many jobs somebody asks for a set of so many.
SET_EVERY, SET_SIZE = 15, 6
DISK = "96m"
# The pixels of one side of a picture of noise that has more than 64 KB, and goes to the bucket.
LARGE = 192
# A bridge of several that is frozen for longer is counted as dead.
LEASE_S = 2
# Something is stuck for a customer who lacks something, and gets nothing for so long.
PATIENCE_S = 120.0

Tell = Callable[[str], None]


class Plan(Struct, frozen=True):
    """The size of a run. All chance comes from the seed, as far as the machine lets it."""

    seed: int
    jobs: int
    customers: int
    # Faults, in this order; without any they are drawn, but none of `without`.
    strikes: int
    order: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    pause_s: float = 3.0
    # More than one share a journal in PostgreSQL, a bucket for the outputs, and a ComfyUI that
    # somebody else runs.
    bridges: int = 1


async def run(plan: Plan, folder: Path, tell: Tell) -> Verdict:
    """Run the whole of it; returns what became of the jobs."""
    dice = random.Random(plan.seed)
    async with AsyncExitStack() as stack:
        broker = await stack.enter_async_context(Mosquitto(folder / "mosquitto"))
        victims = await _victims(plan, folder, broker, dice=dice, stack=stack, tell=tell)
        customers = [
            Customer(f"customer{number}", broker.url, 5 if number % 2 else 4)
            for number in range(plan.customers)
        ]
        for customer in customers:
            customer.connect()
        try:
            async with _insisting(customers):
                await _happen(plan, victims, customers, dice, tell)
                await _settled(customers, tell)
                verdict = await judge(customers, folder, victims.counts, victims.deaths)
                verdict.intake_moves = _intake_moves(victims)
                if victims.counts["intake killed"] and not verdict.intake_moves:
                    verdict.broken.append("nobody else took the requests")
                if victims.bucket is not None:
                    verdict.puts = victims.bucket.puts
                    if verdict.puts < verdict.succeeded:
                        verdict.broken.append("outputs were not put into the bucket")
        finally:
            for customer in customers:
                await customer.leave()
        there = [each for each in victims.bridges if not each.has_ended]
        verdict.memory = {each.folder.name: resident(each.pid) for each in there}
        verdict.broken += await leftovers(there)
        gone = [each.folder.name for each in victims.bridges if each not in there]
        verdict.broken += [f"{name} ended by itself" for name in gone]
        return verdict


async def _victims(
    plan: Plan,
    folder: Path,
    broker: Mosquitto,
    *,
    dice: random.Random,
    stack: AsyncExitStack,
    tell: Tell,
) -> Victims:
    """Start all parts but the broker, which runs."""
    proxies = [await stack.enter_async_context(TcpProxy(broker.url)) for _ in range(plan.bridges)]
    places = [folder / f"bridge{number}" for number in range(plan.bridges)]
    disk = server = database = bucket = None
    # Every output is delivered to this folder, which all bridges share.
    sink = folder / DELIVERED
    sink.mkdir()
    delivered: dict[str, Any] = {
        "sink_folder": [{"name": "all", "path": str(sink), "file": "{client}/{job_id}"}],
        "sink": [{"put": "folder:all"}],
    }
    settings: dict[str, Any] = {}
    size = 64
    if plan.bridges == 1:
        disk = stack.enter_context(_small_disk(places[0] / "data"))
        if disk is None:
            tell("no disk faults: a file system cannot be mounted here")
        settings["comfyui"] = json.dumps([_supervised(folder)])
    else:
        server = Server(supervised(), folder / "comfyui")
        stack.callback(server.stop)
        # It starts in a thread of its own, and takes longest: the others start meanwhile.
        starting = asyncio.create_task(asyncio.to_thread(server.start))
        await asyncio.sleep(0)
        database = stack.enter_context(running_postgresql(durable=True))
        bucket = await stack.enter_async_context(running_bucket())
        await starting
        size = LARGE
        settings = {
            "comfyui_url": server.url,
            "comfyui_secret": server.secret,
            # It goes with the server: to drop one of its own would take a sync.
            "journal": database.address("postgres"),
            "lease_s": LEASE_S,
            **bucket.settings(folder),
        }
    bridges = []
    for place, proxy in zip(places, proxies, strict=True):
        bridge = BridgeProcess(
            place,
            mqtt_url=proxy.url.replace("http:", "mqtt:"),
            # A job may be hit again and again here.
            max_attempts=50,
            stop_s=STOP_S,
            log_level="info",
            **({"member": place.name} if plan.bridges > 1 else {}),
            **delivered,
            **settings,
        )
        bridge.add_workflow(WORKFLOW, _work(folder / TALLY, size))
        library = _faketime()
        if library is not None:
            fake_clock(bridge, library)
        stack.push_async_exit(bridge.__aexit__)
        await bridge.start(ready=False)
        bridges.append(bridge)
    # What is published before anybody has subscribed is nobody's.
    await bridges[0].ready()
    return Victims(
        broker=broker,
        bridges=bridges,
        proxies=proxies,
        disk=disk,
        server=server,
        database=database,
        bucket=bucket,
        faketime=_faketime(),
        dice=dice,
    )


def _supervised(folder: Path) -> dict[str, Any]:
    """A ComfyUI of the bridge's own, as a table of its settings."""
    config = supervised()
    paths = folder / "faults.yaml"
    paths.write_text(json.dumps({"faults": {"custom_nodes": str(FAULT_NODES)}}))
    return {
        "name": "default",
        "path": str(config.path),
        "python": str(config.python),
        "args": ["--cpu", "--extra-model-paths-config", str(paths)],
        # The bridge's clock is shifted, not ComfyUI's, which may hang with it.
        "environment": {"LD_PRELOAD": ""},
    }


def _work(tally: Path, size: int) -> Graph:
    """Takes its time, saves a file, leaves a mark in another, gives an image; input `tag`."""
    graph = then(image(size=size), "TestSleep", seconds=0.1, step=0.05)
    graph = then(graph, "TestWrite")
    graph = our_output(then(graph, "TestTally", file=str(tally), tag=["9", 0]))
    graph["9"] = {"class_type": "Comfy2MQTTTextInput", "inputs": {"name": "tag", "value": ""}}
    # Drawn for each job: no two have the same picture.
    graph["10"] = {"class_type": "Comfy2MQTTSeedInput", "inputs": {"name": "seed", "value": 0}}
    graph["1"]["inputs"]["seed"] = ["10", 0]
    return graph


@asynccontextmanager
async def _insisting(customers: list[Customer]) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(customer.insist(WORKFLOW)) for customer in customers]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def strikes(plan: Plan, possible: list[str], dice: random.Random, tell: Tell) -> list[str]:
    """Return the faults in order: as planned, without what cannot be made here, else by chance."""
    for each in plan.order:
        if each not in possible:
            tell(f"{each}: cannot be made on this machine")
    planned = [each for each in plan.order if each in possible]
    drawn = [each for each in possible if each not in plan.without]
    return planned or [dice.choice(drawn) for _ in range(plan.strikes)]


async def _happen(
    plan: Plan, victims: Victims, customers: list[Customer], dice: random.Random, tell: Tell
) -> None:
    """Send the jobs, strike meanwhile, and have a third of the customers away for long."""
    names = strikes(plan, list(victims.faults), dice, tell)
    away = dice.sample(customers, len(customers) // 3)
    done = asyncio.Event()

    async def order() -> None:
        for number in range(plan.jobs):
            dice.choice(customers).ask_for(WORKFLOW, named=number % 2 == 0)
            if number % SET_EVERY == 0:
                dice.choice(customers).ask_for_set(SET_SIZE)
            if number % 10 == 0:
                await asyncio.sleep(dice.uniform(0.0, 20.0 * plan.pause_s * len(names) / plan.jobs))
        done.set()

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(order())
        for number, name in enumerate(names):
            if number == len(names) // 3:
                for customer in away:
                    await customer.leave()
            await asyncio.sleep(dice.uniform(0.2, 2.0 * plan.pause_s))
            tell(f"{number + 1}/{len(names)} {name}")
            await victims.strike(name)
        await done.wait()
    for customer in away:
        customer.connect()


def _intake_moves(victims: Victims) -> int:
    taken = sum(each.log.count("receives the requests of the group") for each in victims.bridges)
    return max(0, taken - 1)


async def _settled(customers: list[Customer], tell: Tell) -> None:
    """Wait until every job that a customer knows of has its result, or no more come."""
    tell("all is healed; waiting for the results")
    with suppress(TimeoutError):
        for customer in customers:
            while customer.lacking:
                async with asyncio.timeout(PATIENCE_S):
                    await customer.gets_more()


@contextmanager
def _small_disk(folder: Path) -> Iterator[Path | None]:
    """A small file system of its own, where mounting is allowed; else None."""
    folder.mkdir(parents=True)
    mounting = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={DISK}", "comfy2mqtt-chaos", str(folder)],
        check=False,
        capture_output=True,
    )
    if mounting.returncode:
        yield None
        return
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def _faketime() -> str | None:
    """Return the library that shifts a process's clock, where it is installed."""
    program = shutil.which("faketime")
    if program is None:
        return None
    found = sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))
    return str(found[0]) if found else None


def facts(verdict: Verdict) -> dict[str, Any]:
    """Return what to print of a verdict."""
    return {name: getattr(verdict, name) for name in verdict.__struct_fields__}
