"""Publishes the bridge's own messages: its limits and features (info), and its health."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from pathlib import Path

import msgspec
from msgspec import UNSET

from bridge import __version__
from bridge.adapters.mqtt.encoder import least
from bridge.adapters.mqtt.restrictions import restrictions
from bridge.adapters.mqtt.retained import Retained
from bridge.comfyui.instance import Instance
from bridge.config import Config
from bridge.contract.messages import CONTRACT_VERSION, or_none, or_unset
from bridge.contract.operator import HealthReport
from bridge.contract.requests import VERBS
from bridge.contract.retained import (
    BridgeHealth,
    BridgeInfo,
    GpuFigures,
    HookHealth,
    Isolation,
    Limits,
    Usage,
)
from bridge.contract.topics import RUN, UPLOAD
from bridge.jobs.dispatcher import Dispatcher
from bridge.mqtt import Connection
from bridge.requests.operator import comfyui_state
from bridge.requests.permissions import EVERYBODY, Permissions

log = logging.getLogger(__name__)

HEALTH_INTERVAL_S = 30.0
# Health reports the usage of those clients that used the most.
CLIENTS_REPORTED = 20
# What each bridge of a group counts of its own jobs.
_COUNTED = ("accepted", "succeeded", "failed", "cancelled", "expired", "retried")


class BridgeInfoPublisher:
    """Publishes `bridge/info` and `bridge/health`. Use `run` as a task."""

    def __init__(
        self,
        config: Config,
        *,
        permissions: Permissions,
        retained: Retained,
        dispatcher: Dispatcher,
        instances: Sequence[Instance],
        hooks: Callable[[], dict[str, HookHealth]],
        gpus: dict[str, GpuFigures],
        store: Callable[[], str | None],
    ) -> None:
        """`gpus` is called for each message; `store` returns the fault of the store, if any."""
        self._store = store
        self._hooks = hooks
        self._gpus = gpus
        self._config = config
        self._permissions = permissions
        self._retained = retained
        dispatcher.on_blocked = retained.set_blocked
        self._dispatcher = dispatcher
        self._instances = instances
        self._info: BridgeInfo | None = None
        self._restrictions: Mapping[str, str] = {}
        # The largest message that the broker passes on, in bytes, once it was measured.
        self._largest: int | None = None

    def publish_info(self, connection: Connection) -> None:
        """Publish `bridge/info`, with the limits of the broker that we are connected to."""
        config = self._config
        found = restrictions(
            connection.connack,
            connection.version,
            session_s=config.remember_ids_s,
            packet_limit=connection.packet_limit,
        )
        self._restrict({**found, **self._measured()})
        limits = Limits(
            max_packet=or_unset(least(connection.packet_limit, self._largest)),
            max_inline_input=config.max_inline_input,
            max_upload=config.max_upload,
            max_queue=config.max_queue,
            max_queue_per_client=self._permissions.of(EVERYBODY).max_queue,
            max_set=self._permissions.of(EVERYBODY).max_set,
            keep_results_s=config.keep_results_s,
            keep_outputs_s=config.keep_outputs_s,
            remember_ids_s=config.remember_ids_s,
        )
        self._info = BridgeInfo(
            name=config.name,
            version=__version__,
            contract=CONTRACT_VERSION,
            limits=limits,
            features=sorted([*VERBS, RUN, UPLOAD]),
            isolation="unknown",
            mqtt=connection.version,
            restrictions=dict(self._restrictions) or UNSET,
            page=or_unset(config.public_url),
        )
        self._retained.info(self._info)

    def _restrict(self, found: Mapping[str, str]) -> None:
        """Log each feature that the broker lacks, once for as long as it lacks it."""
        for word, sentence in found.items():
            if self._restrictions.get(word) != sentence:
                log.warning("the broker has a restriction: %s", sentence)
        self._restrictions = found

    def set_largest(self, size: int) -> None:
        """Publish the largest message, in bytes, that the broker delivers, once it was measured."""
        self._largest = least(self._largest, size)
        if self._info is None:
            return
        self._restrict({**self._restrictions, **self._measured()})
        limit = least(or_none(self._info.limits.max_packet), self._largest)
        self._info = msgspec.structs.replace(
            self._info,
            limits=msgspec.structs.replace(self._info.limits, max_packet=or_unset(limit)),
            restrictions=dict(self._restrictions),
        )
        self._retained.info(self._info)

    def _measured(self) -> dict[str, str]:
        if self._largest is None:
            return {}
        return {"size": f"it delivers no message of more than {self._largest} bytes: fetch them"}

    def set_isolation(self, isolation: Isolation) -> None:
        """Publish whether the broker separates clients, as the probe found."""
        if self._info is not None:
            self._info = msgspec.structs.replace(self._info, isolation=isolation)
            self._retained.info(self._info)

    async def run(self) -> None:
        """Publish `bridge/health` every `HEALTH_INTERVAL_S`, until cancelled."""
        while True:
            self.publish_health()
            await asyncio.sleep(HEALTH_INTERVAL_S)

    def publish_health(self) -> None:
        """Publish `bridge/health` now, after a change that somebody waits for."""
        own = self._health()
        self._retained.health(self._of_all(own), own)

    def _of_all(self, own: BridgeHealth) -> BridgeHealth:
        """Return the health of the group; of a bridge alone its own."""
        busy = sum(each.state == "busy" for each in self._retained.elsewhere().values())
        whole = of_group(own, self._retained.healths())
        held = or_unset(self._dispatcher.book.held)
        return msgspec.structs.replace(whole, running=own.running + busy, held=held)

    def _health(self) -> BridgeHealth:
        dispatcher, counters = self._dispatcher, self._dispatcher.counters
        return BridgeHealth(
            at=round(time.time(), 3),
            queued=dispatcher.book.queued,
            running=dispatcher.book.running,
            accepted=counters.accepted,
            succeeded=counters.outcomes["succeeded"],
            failed=counters.outcomes["failed"],
            cancelled=counters.outcomes["cancelled"],
            expired=counters.outcomes["expired"],
            retried=counters.retried,
            clients=_most(
                {
                    name: Usage(jobs=share.jobs, run_s=round(share.run_s, 1))
                    for name, share in counters.clients.items()
                }
            ),
            paused=dispatcher.book.paused,
            memory=or_unset(resident_bytes()),
            hooks=self._hooks(),
            gpus=self._gpus,
            store=or_unset(self._store()),
            held=or_unset(dispatcher.book.held_here),
        )

    def health_report(self) -> HealthReport:
        """Return the answer to the operator's `health_check`."""
        health = self._of_all(self._health())
        ours = {
            each.name: self._retained.with_held(each.name, comfyui_state(each.state))
            for each in self._instances
        }
        return HealthReport(
            healthy=self._retained.capacity_elsewhere()[0] > 0
            or any(instance.state.usable for instance in self._instances),
            version=__version__,
            paused=health.paused,
            queued=health.queued,
            running=health.running,
            succeeded=health.succeeded,
            failed=health.failed,
            comfyui={**self._retained.elsewhere(), **ours},
            memory=health.memory,
            store=health.store,
            held=health.held,
        )


def of_group(own: BridgeHealth, others: Sequence[BridgeHealth]) -> BridgeHealth:
    """Return the health of a group; `own` is that of the bridge that publishes it. Pure.

    The queue is the same for all. The caller adds the running jobs, which it knows sooner.
    """
    everybody = [*others, own]
    clients: dict[str, Usage] = {}
    for name, usage in chain.from_iterable(each.clients.items() for each in everybody):
        known = clients.get(name, Usage(jobs=0, run_s=0.0))
        run_s = round(known.run_s + usage.run_s, 1)
        clients[name] = Usage(jobs=known.jobs + usage.jobs, run_s=run_s)
    return msgspec.structs.replace(
        own,
        **{name: sum(getattr(each, name) for each in everybody) for name in _COUNTED},
        clients=_most(clients),
        gpus={name: gpu for each in everybody for name, gpu in each.gpus.items()},
    )


def _most(clients: Mapping[str, Usage]) -> dict[str, Usage]:
    """Return the clients that used the most."""
    return dict(sorted(clients.items(), key=lambda each: -each[1].run_s)[:CLIENTS_REPORTED])


def resident_bytes() -> int | None:
    """Return this process's resident bytes; None if there is no /proc."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return None
    found = (line for line in status.splitlines() if line.startswith("VmRSS:"))
    return next((int(line.split()[1]) * 1024 for line in found), None)
