"""The reference: `websockets.broadcast`, and nothing around it. `python -m ... PORT`."""

from __future__ import annotations

import asyncio
import sys

from websockets.asyncio.server import ServerConnection, broadcast, serve
from websockets.exceptions import ConnectionClosed


async def main(port: int) -> None:
    """Send everybody what somebody says: `<how often> <what>`."""
    everybody: set[ServerConnection] = set()

    async def attend(connection: ServerConnection) -> None:
        everybody.add(connection)
        try:
            async for message in connection:
                times, _, text = str(message).partition(" ")
                for _ in range(int(times)):
                    broadcast(everybody - {connection}, text)
        except ConnectionClosed:
            pass
        finally:
            everybody.discard(connection)

    async with serve(attend, "127.0.0.1", port, compression=None) as server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
