"""Home Assistant by MQTT: announces devices, publishes their states, carries out their commands.

Its jobs are those of one client, `homeassistant`, with that client's permissions; other clients'
jobs are not shown. An announcement that the broker retains from an earlier run shows what is gone.
Of several bridges the one that takes requests announces and shows everything.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

from msgspec import UNSET
from msgspec.structs import replace

from bridge.adapters.homeassistant import discovery
from bridge.adapters.homeassistant.command_components import is_updated
from bridge.adapters.homeassistant.device_state import REFUSED, DeviceState, DoneEvent
from bridge.adapters.homeassistant.discovery import AnnouncedBridge
from bridge.adapters.homeassistant.fields import Choices, Field, fields
from bridge.adapters.homeassistant.inputs import Inputs
from bridge.adapters.homeassistant.job_updates import CLIENT, GroupJobs, read_result
from bridge.adapters.homeassistant.retained import RetainedMessages
from bridge.adapters.mqtt.extension import Extension
from bridge.adapters.mqtt.publisher import Publisher
from bridge.adapters.mqtt.retained_images import RetainedImage, RetainedImages
from bridge.contract.errors import Error
from bridge.contract.messages import (
    Accepted,
    JobStatus,
    Output,
    OutputInfo,
    Progress,
    Result,
    Submit,
    or_none,
)
from bridge.contract.retained import Definition
from bridge.contract.sets import SetAccepted
from bridge.contract.topics import RUN, HomeAssistantTopics, RequestTopic, Topics, matches
from bridge.jobs.database import DatabaseError, LeaseLost
from bridge.jobs.job import Envelope, Job
from bridge.jobs.journal import Journal
from bridge.jobs.queue import Key
from bridge.media.files import Files, read_kept
from bridge.media.profile import Profile
from bridge.media.transcode import CannotTranscode, Transcoder
from bridge.mqtt import Connection, Incoming, PacketTooLarge, Subscription
from bridge.requests.context import Answer, RequestContext
from bridge.requests.handler import RequestHandler

log = logging.getLogger(__name__)

# Many answer Home Assistant's birth message: not all in the same instant.
BIRTH_DELAY_S = 5.0
_BORN = b"online"
# How many pictures it makes, each with its own seed.
SURPRISES = 4
# In a group: how often unfinished jobs are looked up, in seconds, as updates may be lost.
_FIND_ENDED_S = 10.0
# An image for a dashboard; Home Assistant's own broker takes 2 MB at a time.
_MAX_IMAGE_BYTES = 1024 * 1024


# Work that takes time, done by a task of `run`.
_Work = Callable[[], Awaitable[None]]


class _Device:
    """A workflow as a device of Home Assistant."""

    def __init__(self, definition: Definition, choices: Choices) -> None:
        self.definition = definition
        self.fields = {field.key: field for field in fields(definition, choices)}
        # Results are shown in the order in which they came: a small picture does not overtake a
        # large one.
        self.showing = asyncio.Lock()


class HomeAssistant(Extension):
    """The devices in Home Assistant; a `jobs.listener.Listener` as well."""

    def __init__(
        self,
        bridge: AnnouncedBridge,
        *,
        topics: Topics,
        tree: HomeAssistantTopics,
        inputs: Inputs,
        images: RetainedImages,
        journal: Journal,
        files: Files,
        publisher: Publisher,
        transcoder: Transcoder,
        choices: Callable[[], Choices] = dict,
        leads: Callable[[], bool] | None = None,
    ) -> None:
        """`choices` returns the lists that definitions only name.

        `leads`: of several bridges, whether this one takes the requests.
        """
        self._bridge = bridge
        self._alone = leads is None
        self._leads = leads or (lambda: True)
        self._choices = choices
        self._topics = topics
        self._tree = tree
        self._inputs = inputs
        self._images = images
        self._journal = journal
        self._files = files
        self._publisher = publisher
        self._transcoder = transcoder
        self._retained = RetainedMessages(publisher, topics, tree, self._leads)
        self._devices: dict[str, _Device] = {}
        self._states: defaultdict[str, DeviceState] = defaultdict(DeviceState)
        self._group_jobs = GroupJobs(
            journal, self._states, show=self._show, show_result=self._show_result
        )
        self._work: asyncio.Queue[_Work] = asyncio.Queue()

    async def start(self) -> None:
        """Read what was set, and the jobs from before this process."""
        await self._inputs.open()
        self.set_instances(self._bridge.instances)
        for job in await self._journal.unfinished() if self._alone else ():
            if job.key.client == CLIENT:
                self._states[job.workflow].add(job.key.job_id, job.state)

    async def run(self) -> None:
        """Publish images and answer births, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            if not self._alone:
                tasks.create_task(self._find_ended_jobs())
            while True:
                tasks.create_task(_guarded(await self._work.get()))

    def set_instances(self, names: Sequence[str]) -> None:
        """Announce these ComfyUIs, of all bridges of a group."""
        self._bridge = replace(self._bridge, instances=tuple(names))
        self._announce_bridge()

    def _announce_bridge(self) -> None:
        device = discovery.the_bridge(self._bridge, self._topics)
        self._retained.announce(discovery.bridge_id(self._topics), device)

    # Workflows.

    def workflow(self, definition: Definition) -> None:
        """Announce a workflow, or the difference to its last announcement."""
        name, tree = definition.name, self._tree
        before = self._devices.get(name)
        device = self._devices[name] = _Device(definition, self._choices())
        if before is not None:
            device.showing = before.showing
        announcement = discovery.workflow(
            definition, list(device.fields.values()), self._bridge, self._topics, tree
        )
        self._retained.announce(discovery.workflow_id(self._topics, name), announcement)
        for key in before.fields if before is not None else ():
            if key not in device.fields:
                self._retained.clear(tree.input(name, key))
        for field in device.fields.values():
            self._show_input(name, field)
        runnable = definition.runnable is not False
        self._retained.set(tree.state(name, "available"), b"online" if runnable else b"offline")
        self._show(name)

    def remove_workflow(self, name: str) -> None:
        """Clear everything retained of a workflow."""
        device = self._devices.pop(name, None)
        if device is None:
            return
        self._retained.withdraw(discovery.workflow_id(self._topics, name))
        if self._leads():
            self._later(lambda: self._images.remove(name))

    # Messages.

    @property
    def subscriptions(self) -> Sequence[Subscription]:
        """Commands, Home Assistant's birth message, and all announcements."""
        return [
            # As with requests: what is retained would be carried out again and again.
            *(
                Subscription(filter=each, retain_as_published=True, retain_handling=2)
                for each in self._tree.commands
            ),
            Subscription(filter=self._tree.birth, retain_handling=2),
            Subscription(filter=self._tree.discovered, no_local=True),
            *(() if self._alone else (Subscription(filter=self._tree.jobs, retain_handling=2),)),
        ]

    async def connected(self, _connection: Connection) -> None:
        """Publish all that is retained. Raises DatabaseError."""
        if not self._alone:
            await self._recall()
        self._retained.publish_all()
        await self._images.publish_all(self._devices, _too_large)

    async def received(
        self, incoming: Incoming, delivery: str | None, handler: RequestHandler
    ) -> None:
        """Carry out a command; take an announcement, or Home Assistant's birth message."""
        command = self._tree.parse_command(incoming.topic)
        if command is not None and not incoming.retain:
            name, key = command
            if key is None:
                await self._run(name, incoming, delivery, handler)
            else:
                await self._set_input(name, key, incoming.payload)
        elif incoming.topic == self._tree.birth and incoming.payload == _BORN:
            self._later(self._answer_birth)
        elif matches(self._tree.discovered, incoming.topic):
            if incoming.retain and incoming.payload:
                self._retained.announcement_received(incoming.topic, incoming.payload)
        elif (of_comfyui := self._topics.public_of(incoming.topic)) is not None:
            self._note_released(*of_comfyui, incoming.payload)
        elif not self._alone and (of := self._tree.parse_job(incoming.topic)) is not None:
            await self._group_jobs.take(*of, incoming.payload)

    def _note_released(self, what: str, name: str | None, payload: bytes) -> None:
        """Note whether another bridge looks for the releases of one of its ComfyUIs."""
        if self._alone or what != "comfyui" or name is None:
            return
        updated = self._bridge.updated | {name} if is_updated(payload) else self._bridge.updated
        if updated != self._bridge.updated:
            self._bridge = replace(self._bridge, updated=updated)
            self._announce_bridge()

    # The jobs of several bridges.

    async def _recall(self) -> None:
        """Know what the bridge that took the requests before knew. Raises DatabaseError."""
        await self._inputs.read()
        perhaps_ended = await self._group_jobs.recall()
        for name, device in self._devices.items():
            self._show(name)
            for field in device.fields.values():
                self._show_input(name, field)
        for job_id in perhaps_ended:
            self._later(partial(self._group_jobs.ended, job_id))

    async def _find_ended_jobs(self) -> None:
        """Find jobs that have ended without an update, now and then."""
        while True:
            await asyncio.sleep(_FIND_ENDED_S)
            if self._leads():
                await _guarded(self._group_jobs.find_ended)

    # As a listener of jobs; of several bridges' jobs see `job_updates`.

    def status(self, job: Job, status: JobStatus) -> None:
        """Show a job's state."""
        if job.key.client == CLIENT:
            self._states[job.workflow].status(status)
            self._show(job.workflow)

    def progress(self, job: Job, progress: Progress) -> None:
        """Show how far a job is."""
        if job.key.client == CLIENT:
            self._states[job.workflow].progress(progress)
            self._show(job.workflow)

    def preview(self, job: Job, content_type: str, data: bytes | memoryview) -> None:
        """Show a preview."""
        if job.key.client == CLIENT and job.workflow in self._devices:
            self._publisher.transient(
                self._tree.state(job.workflow, "preview"), bytes(data), content_type
            )

    def output(self, job: Job, info: OutputInfo, data: bytes | memoryview) -> str | None:
        """Leave outputs to their result."""

    def result(self, key: Key, _envelope: Envelope, result: bytes) -> None:
        """Show how a job ended, and its image."""
        ended = read_result(result) if key.client == CLIENT else None
        if ended is not None:
            error = or_none(ended.error)
            self._states[ended.workflow].ended(
                ended.job_id, ended.state, None if error is None else error.message
            )
            self._later(lambda: self._show_result(ended))

    # Commands.

    async def _run(
        self, name: str, incoming: Incoming, delivery: str | None, handler: RequestHandler
    ) -> None:
        device = self._devices.get(name)
        if device is None:
            return
        surprise = incoming.payload == discovery.SURPRISE.encode()
        asked = RequestContext(
            topic=RequestTopic(CLIENT, RUN, name),
            submit=Submit(
                workflow=name,
                inputs=self._given(name, device, seeds=not surprise),
                repeat=SURPRISES if surprise else UNSET,
                preview=True,
                # The image is read from the journal, and published as a dashboard wants it.
                output=Output(deliver="fetch"),
            ),
            delivery=delivery,
            redelivered=incoming.dup,
        )
        answers: list[Answer] = []
        await handler.handle(asked, answers.append)
        for answer in answers:
            if answer.error is not None:
                log.warning(
                    "Home Assistant: workflow %s: request refused: %s", name, answer.error.message
                )
                self._refused(name, answer.error.message)
                self._publish_done(name, _done(REFUSED, answer.error.wire()))
            elif isinstance(answer.data, Accepted):
                log.info("Home Assistant: workflow %s: accepted job %s", name, answer.data.job_id)
            elif isinstance(answer.data, SetAccepted):
                log.info("Home Assistant: workflow %s: accepted set %s", name, answer.data.set_id)

    async def _set_input(self, name: str, key: str, payload: bytes) -> None:
        device = self._devices.get(name)
        field = None if device is None else device.fields.get(key)
        if field is None:
            return
        text = payload.decode(errors="replace")
        value = field.read(text)
        if value is None:
            log.warning(
                "Home Assistant: workflow %s: input %s does not accept %.100r", name, key, payload
            )
            self._refused(name, field.refusal(text))
        else:
            # The next command may come before this one is on disk.
            await self._inputs.set(name, key, value)
        self._show_input(name, field, again=True, like=text if value is None else None)

    def _given(self, name: str, device: _Device, *, seeds: bool) -> dict[str, Any]:
        """Return the values that were set and are still valid, by the inputs' names.

        Without `seeds` each job draws its own.
        """
        given = {}
        for key, field in device.fields.items():
            if field.kind == "seed" and not seeds:
                continue
            value = self._inputs.get(name, key)
            if value is not None and field.takes(value):
                given[field.name] = field.given(value)
        return {input_name: value for input_name, value in given.items() if value is not UNSET}

    # States.

    def _refused(self, name: str, message: str) -> None:
        self._states[name].refused(message)
        self._show(name)

    def _show(self, name: str) -> None:
        if name in self._devices:
            for what, state in self._states[name].shown().items():
                self._retained.set(self._tree.state(name, what), state.encode())

    def _show_input(
        self, name: str, field: Field, *, again: bool = False, like: str | None = None
    ) -> None:
        """Publish an input's value; `again`: even if it is the one published last.

        Of very many choices those are named that are `like` the text that was refused.
        """
        value = self._inputs.get(name, field.key)
        topic = self._tree.input(name, field.key)
        shown = field.shown(value if value is not None and field.takes(value) else field.default)
        self._retained.set(topic, shown.encode() if isinstance(shown, str) else shown, again=again)
        if field.is_searched:
            self._retained.set(self._tree.input_allowed(name, field.key), field.allowed(like))

    async def _show_result(self, result: Result) -> None:
        """Publish the first image, then the states, then the event that the job is done."""
        name = result.workflow
        device = self._devices.get(name)
        async with asyncio.Lock() if device is None else device.showing:
            try:
                await self._show_image(result)
            finally:
                self._show(name)
                self._publish_done(name, _done(result.state, or_none(result.error), result.job_id))

    async def _show_image(self, result: Result) -> None:
        info = next((each for each in result.outputs if each.kind == "image"), None)
        if info is None or result.workflow not in self._devices:
            return
        data = await self._bytes(Key(CLIENT, result.job_id), info.index)
        if data is None:
            return
        try:
            about = [("job_id", result.job_id)]
            topic = self._tree.state(result.workflow, "image")
            room = self._publisher.image_room(topic, discovery.JPEG, about)
            data = await self._as_jpeg(info, data, room)
            await self._images.put(result.workflow, RetainedImage(data, discovery.JPEG, about))
        except CannotTranscode as error:
            log.warning("Home Assistant: workflow %s: no picture: %s", result.workflow, error)
        except PacketTooLarge as error:
            _too_large(result.workflow, error)

    async def _bytes(self, key: Key, index: int) -> bytes | None:
        stored = await self._journal.output(key, index)
        if stored is None:
            return None
        try:
            return await read_kept(self._files, stored.sha256, stored.data)
        except FileNotFoundError:
            return None  # deleted, or damaged: the log says so

    async def _as_jpeg(self, info: OutputInfo, data: bytes, room: int | None) -> bytes:
        """Bring an image into the one form that was announced, in at most `room` bytes.

        Raises CannotTranscode.
        """
        limit = _MAX_IMAGE_BYTES if room is None else min(_MAX_IMAGE_BYTES, room)
        form = Profile(format="jpeg", max_bytes=limit)
        return bytes((await self._transcoder.in_form(form, info, data))[1])

    def _publish_done(self, name: str, done: DoneEvent) -> None:
        if name in self._devices:
            self._publisher.publish(self._tree.state(name, "done"), done.payload())

    async def _answer_birth(self) -> None:
        await asyncio.sleep(secrets.randbelow(1000) / 1000 * BIRTH_DELAY_S)
        self._retained.publish_all()

    def _later(self, work: _Work) -> None:
        self._work.put_nowait(work)


async def _guarded(work: _Work) -> None:
    """Do some work. A failure costs an image on a dashboard, not the bridge."""
    try:
        await work()
    except DatabaseError as error:
        log.warning("Home Assistant: %s", error)
    except LeaseLost:
        raise
    except Exception:
        log.exception("Home Assistant: a message was not handled: defect in the bridge")


def _done(event_type: str, error: Error | None, job_id: str | None = None) -> DoneEvent:
    if error is None:
        return DoneEvent(event_type, job_id)
    return DoneEvent(event_type, job_id, error.code, error.message)


def _too_large(name: str, error: PacketTooLarge) -> None:
    log.warning("Home Assistant: the picture of workflow %s was not published: %s", name, error)
