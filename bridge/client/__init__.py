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
asked for afterwards. What the bridge refuses, and how a job fails, comes as a BridgeError; trouble
with the broker as an MqttError. Everything that a program needs can be imported from here.
"""

from bridge.client.client import Client
from bridge.client.fetching import Damaged, JobOutput
from bridge.client.inputs import Media
from bridge.client.job import Event, Job, JobCancelled, Preview
from bridge.client.jobset import Set
from bridge.contract.errors import (
    BadRequest,
    BridgeError,
    Busy,
    ComfyUIUnavailable,
    Conflict,
    DeliveryFailed,
    DependencyFailed,
    ExecutionError,
    Expired,
    Forbidden,
    Interrupted,
    InvalidInput,
    Lost,
    OutOfMemory,
    Quarantined,
    QuotaExceeded,
    Replaced,
    Timeout,
    TooLarge,
    UnknownJob,
    UnknownWorkflow,
)
from bridge.contract.messages import (
    CONTRACT_VERSION,
    CancelReport,
    ForgetReport,
    JobList,
    JobStatus,
    JobView,
    KeepReport,
    Output,
    OutputInfo,
    Progress,
    RecipeReport,
    Result,
    State,
)
from bridge.contract.retained import BridgeInfo, Definition
from bridge.contract.sinks import Put
from bridge.mqtt import (
    Address,
    BadAddress,
    ConnectionLost,
    ConnectionRefused,
    MqttError,
    PublishRefused,
    SubscribeRefused,
    Unreachable,
)

__all__ = [
    "CONTRACT_VERSION",
    "Address",
    "BadAddress",
    "BadRequest",
    "BridgeError",
    "BridgeInfo",
    "Busy",
    "CancelReport",
    "Client",
    "ComfyUIUnavailable",
    "Conflict",
    "ConnectionLost",
    "ConnectionRefused",
    "Damaged",
    "Definition",
    "DeliveryFailed",
    "DependencyFailed",
    "Event",
    "ExecutionError",
    "Expired",
    "Forbidden",
    "ForgetReport",
    "Interrupted",
    "InvalidInput",
    "Job",
    "JobCancelled",
    "JobList",
    "JobOutput",
    "JobStatus",
    "JobView",
    "KeepReport",
    "Lost",
    "Media",
    "MqttError",
    "OutOfMemory",
    "Output",
    "OutputInfo",
    "Preview",
    "Progress",
    "PublishRefused",
    "Put",
    "Quarantined",
    "QuotaExceeded",
    "RecipeReport",
    "Replaced",
    "Result",
    "Set",
    "State",
    "SubscribeRefused",
    "Timeout",
    "TooLarge",
    "UnknownJob",
    "UnknownWorkflow",
    "Unreachable",
]
