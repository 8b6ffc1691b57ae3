"""The public client: run workflows through a bridge, from any Python program.

    async with Client("mqtt://localhost", client="alice") as bridge:
        job = await bridge.submit("txt2img", prompt="a lighthouse at dusk")
        async for event in job:
            print(event)
        for image in await job.images():
            image.save(f"{job.id}.png")

`bridge.client.sync` is the same without `await`, for scripts.

It needs the broker only, and keeps what the contract promises: a job is submitted until the bridge
says that it has it, always under the same id, and what happened while the connection was away is
asked for afterwards. What the bridge refuses, and how a job fails, comes as the exceptions of
`bridge.contract.errors`; trouble with the broker as those of `bridge.mqtt`.
"""

from bridge.client.client import Client
from bridge.client.inputs import Media
from bridge.client.job import Damaged, Event, Job, JobCancelled, JobOutput, Preview
from bridge.client.jobset import Set

__all__ = [
    "Client",
    "Damaged",
    "Event",
    "Job",
    "JobCancelled",
    "JobOutput",
    "Media",
    "Preview",
    "Set",
]
