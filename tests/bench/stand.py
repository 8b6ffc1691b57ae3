"""The ground of measurements: a broker, a ComfyUI and bridges, all real, and their watching.

Everything writes below one folder on the checkout's own disk: in a /tmp that is memory the journal
would look faster than it is.
"""

from __future__ import annotations

import itertools
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

from msgspec import Struct

from bridge.mosquitto import Mosquitto
from tests.bench.direct import DirectClient
from tests.bench.report import Row
from tests.bench.subscriber import Subscriber, subscribed
from tests.support.bridge import BridgeProcess
from tests.support.comfyui import Graph, Server

B = TypeVar("B", bound=BridgeProcess)

CHECKPOINTS = "checkpoints"
# Settings that say which ComfyUI.
_COMFYUIS = frozenset({"comfyui", "comfyui_path", "comfyui_url"})
# Nothing listens there: for a bridge whose ComfyUI is away.
NOWHERE = "http://127.0.0.1:9"


class Stand:
    """One run of the bench. `tell` takes a line on how far it is."""

    def __init__(
        self, folder: Path, server: Server | None, rounds: int, tell: Callable[[str], None]
    ) -> None:
        self.folder = folder
        self.rounds = rounds
        self.tell = tell
        self._server = server
        self._numbers = itertools.count()
        # Far apart, so that no colour comes twice in a run: ComfyUI would answer from its cache.
        self._colours: Iterator[int] = (each * 7919 % 2**24 for each in itertools.count(1))

    @property
    def server(self) -> Server:
        """The ComfyUI, for measurements that say that they need it."""
        if self._server is None:
            raise RuntimeError("this measurement did not ask for ComfyUI")
        return self._server

    @property
    def checkpoints(self) -> Path:
        """The folder in which the ComfyUI looks for more checkpoints."""
        return self.folder / CHECKPOINTS

    @property
    def attached(self) -> dict[str, str]:
        """The settings of a bridge that attaches to the ComfyUI."""
        return {"comfyui_url": self.server.url, "comfyui_secret": self.server.secret}

    def new_folder(self, name: str) -> Path:
        """Make a folder that nobody has used."""
        path = self.folder / f"{name}-{next(self._numbers)}"
        path.mkdir()
        return path

    def colour(self) -> int:
        """Return a colour that this run has not used."""
        return next(self._colours)

    def empty_output(self) -> None:
        """Remove what was saved: SaveImage lists its folder at each save."""
        for path in self.server.output.glob("*"):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()

    def broker(self, kind: type[Mosquitto] = Mosquitto) -> Mosquitto:
        """Make a mosquitto with the project's settings; `async with` runs it."""
        return kind(self.new_folder("mosquitto"))

    def bridge(
        self,
        kind: type[B],
        broker: Mosquitto,
        workflows: Mapping[str, Graph],
        **settings: Any,
    ) -> B:
        """Make a bridge, attached unless `settings` say otherwise; `async with` starts it."""
        where = {} if settings.keys() & _COMFYUIS else self.attached
        # The debug level costs more than the work itself; what is sent here is no flood.
        clients = {"*": {"requests_per_s": 100_000, "max_queue": 20_000}}
        defaults = {
            "mqtt_url": broker.url,
            "log_level": "info",
            "clients": clients,
            "new_clients_per_s": 100_000,
            **where,
        }
        bridge = kind(self.new_folder("bridge"), **{**defaults, **settings})
        for name, graph in workflows.items():
            bridge.add_workflow(name, graph)
        return bridge

    @asynccontextmanager
    async def both(self, workflows: Mapping[str, Graph]) -> AsyncIterator[Both]:
        """Run broker and bridge, and connect both clients."""
        async with (
            self.broker() as broker,
            self.bridge(BridgeProcess, broker, workflows) as bridge,
            subscribed(broker.url) as subscriber,
            DirectClient(self.server.url) as direct,
        ):
            yield Both(direct, subscriber, Processes(bridge.pid, self.server.running.pid, broker))


class Processes(Struct, frozen=True):
    """The processes of one measurement."""

    bridge: int
    comfyui: int
    broker: Mosquitto


class Both(Struct, frozen=True):
    """The two ways to the same ComfyUI."""

    direct: DirectClient
    subscriber: Subscriber
    processes: Processes


class Measurement(Struct, frozen=True):
    """One or more rows of the table: `name` selects it on the command line.

    `rounds` bounds how many it has, for those that take long.
    """

    name: str
    about: str
    measure: Callable[[Stand], Awaitable[Sequence[Row]]]
    comfyui: bool = True
    rounds: int = 1_000
