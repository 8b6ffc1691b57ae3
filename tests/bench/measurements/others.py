"""The other ways to a saved picture: the official proxy, and a script that polls.

Beside them bridges that only forward: what any bridge needs, were all else free.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AsyncExitStack

from tests.bench.delivery import Delivery, to_image
from tests.bench.figures import compare, p50
from tests.bench.forwarder import forwarder
from tests.bench.graphs import COLOUR, to_disk, trivial
from tests.bench.measurements.parts import FORWARDERS, side
from tests.bench.polling import PollingClient
from tests.bench.proxied import VERSION, proxied
from tests.bench.report import Aim, Row
from tests.bench.stand import Measurement, Stand
from tests.bench.turns import Side, take_turns

JOBS = 100
TURN = 25
AIMS = {"proxy": Aim(0.95), "script": Aim(1.0)}
PROXY = f"comfy-api-proxy {VERSION}"
SCRIPT = "a script that polls"


async def measure(stand: Stand) -> list[Row]:
    """Measure all ways, in turns."""
    node = to_disk("2")
    async with (
        stand.both({"save": trivial(0, node)}) as both,
        proxied(stand.server.url) as proxy,
        PollingClient(stand.server.url) as script,
        AsyncExitStack() as stack,
    ):
        forwarders = [await side(stand, stack, kind, forwarder(kind), node) for kind in FORWARDERS]

        async def bridged(colour: int) -> Delivery:
            return await both.subscriber.run("save", {COLOUR: colour})

        sides = [
            Side("direct", lambda colour: both.direct.run(trivial(colour, node))),
            Side("bridge", bridged),
            Side("proxy", lambda colour: proxy.run(trivial(colour, node))),
            Side("script", lambda colour: script.run(trivial(colour, node))),
            *(each for each, _ in forwarders),
        ]
        rounds = await take_turns(stand, sides, jobs=JOBS, turn=TURN)
    times = {name: [to_image(each.deliveries) for each in taken] for name, taken in rounds.items()}

    def row(what: str, side: str, reference: str, aim: Aim | None = None) -> Row:
        found: Sequence[Sequence[float]] = times[side]
        return Row.compared(
            f"trivial job, SaveImage: {what}, p50", "ms", compare(found, times[reference], p50), aim
        )

    return [
        row(f"the bridge over {PROXY}", "bridge", "proxy", AIMS["proxy"]),
        row(f"the bridge over {SCRIPT}", "bridge", "script", AIMS["script"]),
        row(f"{PROXY} over the direct client", "proxy", "direct"),
        row(f"{SCRIPT} over the direct client", "script", "direct"),
        *(
            row(f"{about} over {name}", kind, other)
            for kind, about in FORWARDERS.items()
            for name, other in ((PROXY, "proxy"), (SCRIPT, "script"))
        ),
    ]


MEASUREMENT = Measurement("others", "the official proxy, and a script that polls", measure)
