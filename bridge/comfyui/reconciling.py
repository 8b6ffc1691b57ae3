"""What became of a doubtful prompt: ComfyUI's queue, its history, and the queue again decide."""

from __future__ import annotations

from collections.abc import Sequence

from bridge.comfyui import events
from bridge.comfyui.client import ComfyClient
from bridge.comfyui.errors import ReplyTooLarge, UnexpectedAnswer
from bridge.comfyui.following import Follower, Followers


class Reconciler:
    """Settles doubtful followers; calls must not overlap."""

    def __init__(self, client: ComfyClient, followers: Followers) -> None:
        self._client = client
        self._followers = followers

    async def settle(self, doubtful: Sequence[Follower]) -> None:
        """Bring these up to date. Raises ComfyUIError and leaves the rest doubtful if it cannot."""
        unknown: list[Follower] = []
        for follower in doubtful:
            if follower.execution.ended and follower.execution.end is not None:
                await self._complete(follower)
            else:
                unknown.append(follower)
        # Twice: a prompt may be put into the queue, or move on from there, between two looks.
        for _ in range(2):
            unknown = await self._look(unknown)
        for follower in unknown:
            follower.execution.stop(
                events.Interrupted()
                if follower.withdrawn
                else events.Lost("ComfyUI neither queues nor remembers the prompt")
            )
            self._followers.end(follower)

    async def _look(self, followers: Sequence[Follower]) -> list[Follower]:
        """Look in queue and history; return those that are in neither."""
        if not followers:
            return []
        queue = await self._client.queue()
        unknown: list[Follower] = []
        for follower in followers:
            execution = follower.execution
            if follower.prompt_id in queue:
                follower.doubtful = False
                self._followers.seen(follower)
                follower.put(execution.enqueue())
                if follower.prompt_id in queue.running:
                    follower.put(execution.start())
            elif not await self._remembered(follower):
                unknown.append(follower)
        return unknown

    async def _remembered(self, follower: Follower) -> bool:
        entry = await self._client.history(follower.prompt_id)
        if entry is None:
            return False
        follower.doubtful = False
        execution = follower.execution
        # Frames that are only late say more than the history does.
        if follower.blind or execution.ended or self._followers.silent(follower):
            if not execution.ended:
                execution.cut()
            follower.put(execution.enqueue())
            follower.put(execution.start())
            execution.settle(entry)
            await self._complete(follower)
        return True

    async def _complete(self, follower: Follower) -> None:
        """Fetch the outputs of ours that did not come over the socket, and end the prompt."""
        execution = follower.execution
        for header in execution.missing():
            try:
                data = await self._client.held_output(follower.prompt_id, header.node, header.index)
            except (UnexpectedAnswer, ReplyTooLarge) as error:
                execution.stop(events.Lost(f"an output is gone: {error}"))
                break
            if self._followers.get(follower.prompt_id) is not follower:
                return
            follower.put(execution.output(header, data))
        self._followers.end(follower)
