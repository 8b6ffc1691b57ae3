"""One bridge, as Home Assistant has it: by Home Assistant's own MQTT connection.

Each job has an id of ours, so that its request may be sent again until it is answered. What comes
of its results is in `results`.

All methods and callbacks run in Home Assistant's event loop.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from typing import Any, TypeAlias
from uuid import uuid4

from homeassistant.components import mqtt
from homeassistant.config_entries import ConfigEntry
from homeassistant.core import CALLBACK_TYPE, HomeAssistant, callback
from homeassistant.exceptions import HomeAssistantError
from homeassistant.util import dt as dt_util

from .const import DOMAIN, LOGGER
from .protocol.automation_events import BridgeStatus, bridge_status
from .protocol.decode import MalformedError, read_object
from .protocol.definitions import Workflow, read_choices, read_workflow
from .protocol.messages import (
    Health,
    Info,
    Output,
    RefusedError,
    Result,
    read_ended,
    read_health,
    read_info,
    read_result,
)
from .protocol.pictures import Picture, Shown
from .protocol.topics import Topics
from .requests import MALFORMED, SILENCE, Media, Requests, decoded, end, failure, pages
from .results import Results

# How long the first messages of a bridge may take: the broker has them retained.
READY_S = 10.0
# How much longer than its own limits a job is waited for.
MARGIN_S = 30.0
# How often it is asked whether a job has ended that somebody waits for: its result comes by itself,
# unless the broker does not take it.
ASK_S = 60.0
# So many numbers the messages of a job take at most, as a rule; where there are too few jobs among
# the newest numbers, so many times more are looked at.
NUMBERS = 8
FARTHER = 4

# What listeners can listen to.
AVAILABILITY, WORKFLOWS, CHOICES, COMFYUI, DISPLAYS, HEALTH, RESULTS, TASKS, ENDED = (
    "availability",
    "workflows",
    "choices",
    "comfyui",
    "displays",
    "health",
    "results",
    "tasks",
    # The hub itself, once: whoever outlives it looks for the next one.
    "ended",
)

Spawn: TypeAlias = Callable[[Coroutine[Any, Any, None], str], object]


class Hub:
    """A bridge: its workflows, ComfyUIs, displays and results, and what can be asked of it."""

    def __init__(self, hass: HomeAssistant, topics: Topics, store_id: str, spawn: Spawn) -> None:
        """`spawn` has something done beside, under a name, for as long as this is there."""
        self._hass = hass
        self.topics = topics
        self.info: Info | None = None
        self.health = Health()
        self.is_online = False
        # It is online, and did not answer the last request in our name.
        self.is_silent = False
        # Everything that was retained is known.
        self.is_settled = False
        self.workflows: dict[str, Workflow] = {}
        self.choices: dict[str, list[str]] = {}
        self.comfyui: dict[str, dict[str, Any]] = {}
        self.displays: dict[str, Shown] = {}
        self.running: set[str] = set()
        self._ready = asyncio.Event()
        self._requests = Requests(hass, topics, lambda: self.is_available)
        self._results = Results(
            hass,
            topics,
            store_id,
            ask=self.ask,
            spawn=self._in_background,
            on_result=self._resolve,
            on_report=partial(self._notify, RESULTS),
        )
        self._awaited: dict[str, asyncio.Future[Result]] = {}
        self._listeners: dict[str, list[Callable[..., object]]] = {}
        self._stops: list[CALLBACK_TYPE] = []
        self._has_left = False
        self._spawn = spawn

    # Life.

    async def start(self) -> None:
        """Subscribe, wait for what the broker has retained, and list what was missed.

        Raises TimeoutError without a bridge, RefusedError and HomeAssistantError where it does not
        answer in our name.
        """
        await self._results.load()
        topics = self.topics
        await self._subscribe(
            {
                topics.results: self._take_result,
                topics.choices: self._take_choices,
                topics.workflows: self._take_workflow,
                topics.comfyui: self._take_comfyui,
                topics.displays: self._take_display,
                topics.health: self._take_health,
            }
        )
        # What is retained has come before an answer does.
        await self._results.catch_up()
        self.is_settled = True

    async def attempt(self) -> None:
        """Find out whether the bridge is there and answers; nothing is kept. Raises as `start`."""
        await self._subscribe({})
        await self.ask("list", peek=True, limit=1)

    async def _subscribe(self, takes: Mapping[str, Callable[[mqtt.ReceiveMessage], None]]) -> None:
        """Subscribe to these topics and to what every request needs, and wait for the bridge."""
        topics = self.topics
        needed = {
            topics.responses: self._requests.take,
            topics.info: self._take_info,
            topics.state: self._take_state,
        }
        # The state comes last: what is retained is known then.
        for topic, take in {**takes, **needed}.items():
            self._stops.append(
                await mqtt.async_subscribe(
                    self._hass, topic, self._until_left(take), qos=1, encoding=None
                )
            )
        self._stops.append(
            mqtt.async_subscribe_connection_status(self._hass, self._take_connection)
        )
        async with asyncio.timeout(READY_S):
            await self._ready.wait()

    def _until_left(
        self, take: Callable[[mqtt.ReceiveMessage], None]
    ) -> Callable[[mqtt.ReceiveMessage], None]:
        """Return what takes messages until this is left.

        Where Home Assistant's MQTT integration was loaded again since, nobody can unsubscribe.
        """

        @callback
        def taken(message: mqtt.ReceiveMessage) -> None:
            if not self._has_left:
                take(message)

        return taken

    async def stop(self) -> None:
        """Leave, and keep what has to be known at the next start."""
        self.leave()
        await self._results.save()

    @callback
    def leave(self) -> None:
        """Unsubscribe, once; who waits for an answer or a job gets an error."""
        if self._has_left:
            return
        self._has_left = True
        for stop in self._stops:
            stop()
        self._requests.stop()
        for result in self._awaited.values():
            end(result)
        self._notify(ENDED)

    @property
    def pictures(self) -> Mapping[str, Picture]:
        """The last picture of each workflow."""
        return self._results.pictures

    @property
    def is_available(self) -> bool:
        """True if the broker is connected and the bridge is online."""
        return self.is_online and mqtt.is_connected(self._hass)

    @property
    def status(self) -> BridgeStatus:
        """The bridge's state as automations see it: online or not, busy or not."""
        return bridge_status(self.comfyui.values(), is_online=self.is_available)

    @callback
    def listen(self, what: str, listener: Callable[..., object]) -> CALLBACK_TYPE:
        """Call `listener` at each change of `what`; return what ends that."""
        listeners = self._listeners.setdefault(what, [])
        listeners.append(listener)

        @callback
        def stop() -> None:
            listeners.remove(listener)

        return stop

    # Requests.

    async def ask(self, verb: str, *names: str, **fields: Any) -> Mapping[str, Any]:
        """Send a request until it is answered; return the data of its answer.

        Raises RefusedError for what the bridge refuses, HomeAssistantError without an answer.
        """
        try:
            found = await self._requests.ask(verb, *names, **fields)
        except RefusedError:
            self._note_silence(is_silent=False)
            raise
        except HomeAssistantError as error:
            if error.translation_key == SILENCE:
                self._note_silence(is_silent=True)
            raise
        self._note_silence(is_silent=False)
        return found

    @callback
    def _note_silence(self, *, is_silent: bool) -> None:
        if is_silent != self.is_silent:
            self.is_silent = is_silent
            self._notify(HEALTH)

    async def command(self, verb: str, **fields: Any) -> Mapping[str, Any]:
        """Send an operator's command; return the data of its answer. Raises as `ask`."""
        return await self._requests.command(verb, **fields)

    async def output(self, job_id: str, output: Output, width: int | None = None) -> Media:
        """Fetch the bytes of an output; see `Requests.output`."""
        return await self._requests.output(job_id, output, width)

    async def run(
        self,
        workflow: str,
        inputs: Mapping[str, Any],
        *,
        timeout_s: float | None = None,
        priority: int | None = None,
    ) -> Result:
        """Run a workflow to its end; `Media` among the inputs is sent with it.

        With `timeout_s` it may wait so long, and then run so long. Raises RefusedError for what is
        refused, HomeAssistantError where there is no result. Whoever cancels this cancels the job.
        """
        job_id = await self.submit(workflow, inputs, timeout_s=timeout_s, priority=priority)
        limit = None if timeout_s is None else 2 * timeout_s + MARGIN_S
        try:
            async with asyncio.timeout(limit):
                return await self._end_of(job_id)
        except TimeoutError:
            self._in_background(self._cancel_quietly(job_id))
            raise failure("timed_out", workflow=workflow, job_id=job_id) from None
        except asyncio.CancelledError:
            self._in_background(self._cancel_quietly(job_id))
            raise
        finally:
            self._awaited.pop(job_id, None)
            self.running.discard(job_id)

    async def _end_of(self, job_id: str) -> Result:
        """Return the result of a job that is followed.

        Raises RefusedError for one that is gone, HomeAssistantError for what cannot be read.
        """
        awaited = self._awaited.setdefault(job_id, self._hass.loop.create_future())
        while not (await asyncio.wait((awaited,), timeout=ASK_S))[0]:
            try:
                found = await self.result_of(job_id)
            except RefusedError as error:
                if error.code == "unknown_job":
                    raise
            except HomeAssistantError as error:
                # It says the same of an ended job each time.
                if error.translation_key == MALFORMED:
                    raise
                LOGGER.debug("job %s cannot be asked for: %s", job_id, error)
            else:
                if found is not None:
                    self._results.take_asked(found)
        return awaited.result()

    @staticmethod
    def new_job() -> str:
        """Return an id for a job that nobody has used."""
        return f"ha-{uuid4().hex}"

    async def submit(
        self,
        workflow: str,
        inputs: Mapping[str, Any],
        *,
        timeout_s: float | None = None,
        priority: int | None = None,
        follow: bool = True,
        job_id: str | None = None,
        preview: bool = False,
    ) -> str:
        """Have a job accepted, and return its id; its result comes to the listeners of `RESULTS`.

        `job_id` is one of `new_job`; with `preview` the bridge publishes previews. Raises as `run`.
        """
        job_id = job_id or self.new_job()
        values = {name: await self._requests.sendable(value) for name, value in inputs.items()}
        if follow:
            self._awaited[job_id] = self._hass.loop.create_future()
            self.running.add(job_id)
        try:
            await self.ask(
                "submit",
                workflow=workflow,
                job_id=job_id,
                inputs=values,
                # The bytes are fetched when somebody wants them.
                output={"deliver": "fetch"},
                start_within_s=timeout_s,
                timeout_s=timeout_s,
                priority=priority,
                preview=preview or None,
            )
        except BaseException as error:
            self._awaited.pop(job_id, None)
            self.running.discard(job_id)
            if not isinstance(error, RefusedError):
                # The broker may have the request, and nobody waits for the job any more.
                self._in_background(self._cancel_quietly(job_id))
            raise
        return job_id

    async def cancel(self, job_id: str) -> Mapping[str, Any]:
        """Cancel a job. Raises as `ask`."""
        return await self.ask("cancel", job_id=job_id)

    async def _cancel_quietly(self, job_id: str) -> None:
        try:
            await self.cancel(job_id)
        except (RefusedError, HomeAssistantError) as error:
            LOGGER.debug("job %s cannot be cancelled: %s", job_id, error)

    async def jobs(self, count: int, **fields: Any) -> list[Mapping[str, Any]]:
        """Return up to `count` jobs that fit, the newest first; none is acknowledged.

        A list goes from old to new. So that it needs not have all of them, it begins a little below
        the newest number that is known, and lower while it has too few. Raises as `ask`.
        """
        newest, below = self._results.newest, NUMBERS * count
        while True:
            after = max(0, newest - below)
            found: deque[Mapping[str, Any]] = deque(maxlen=count)
            async for page in pages(self.ask, after, **fields):
                found.extend(page.jobs)
            if after == 0 or len(found) == count:
                return [*reversed(found)]
            below *= FARTHER

    async def result_of(self, job_id: str) -> Result | None:
        """Return a job's result; None if it has not ended. Raises as `ask`."""
        return decoded(read_ended, await self.ask("status", job_id=job_id))

    # What comes.

    @callback
    def _take_result(self, message: mqtt.ReceiveMessage) -> None:
        result = self._read(message, read_result)
        if result is not None:
            self._results.take(result)

    @callback
    def _resolve(self, result: Result) -> None:
        """Hand a result to whoever waits for it."""
        awaited = self._awaited.get(result.job_id)
        if awaited is not None and not awaited.done():
            awaited.set_result(result)

    @callback
    def _take_workflow(self, message: mqtt.ReceiveMessage) -> None:
        name = self.topics.name_of(message.topic)
        if not message.payload:
            if self.workflows.pop(name, None) is not None:
                self._notify(WORKFLOWS)
            return
        workflow = self._read(message, read_workflow)
        if workflow is not None and workflow != self.workflows.get(name):
            self.workflows[name] = workflow
            self._notify(WORKFLOWS)

    @callback
    def _take_choices(self, message: mqtt.ReceiveMessage) -> None:
        name = self.topics.name_of(message.topic)
        choices = self._read(message, read_choices) if message.payload else []
        # The definitions that name a list stay the same when it changes.
        if choices is not None and choices != self.choices.get(name):
            self.choices[name] = choices
            self._notify(CHOICES)

    @callback
    def _take_comfyui(self, message: mqtt.ReceiveMessage) -> None:
        name = self.topics.name_of(message.topic)
        state = self._read(message, read_object) if message.payload else {}
        if state:
            self.comfyui[name] = state
        elif state is not None:
            self.comfyui.pop(name, None)
        self._notify(COMFYUI)

    @callback
    def _take_display(self, message: mqtt.ReceiveMessage) -> None:
        name, data = self.topics.display_of(message.topic), as_bytes(message.payload)
        if data:
            self.displays[name] = Shown(data, dt_util.utcnow().isoformat())
        else:
            self.displays.pop(name, None)
        self._notify(DISPLAYS)

    @callback
    def _take_info(self, message: mqtt.ReceiveMessage) -> None:
        info = self._read(message, read_info) if message.payload else None
        if info is not None:
            self.info = info
            self._requests.limits = info.limits
            self._check_ready()
            self._notify(AVAILABILITY)

    @callback
    def _take_health(self, message: mqtt.ReceiveMessage) -> None:
        health = self._read(message, read_health) if message.payload else Health()
        if health is not None and health != self.health:
            self.health = health
            self._notify(HEALTH)
        # Each time that it says how it is, it is found out whether it answers again.
        is_due = self.is_silent or self._results.is_behind
        if is_due and self.is_settled and self.is_available:
            self._results.catch_up_later()

    @callback
    def _take_state(self, message: mqtt.ReceiveMessage) -> None:
        is_online = as_bytes(message.payload) == b"online"
        if is_online != self.is_online:
            LOGGER.info(
                "the bridge %s is %s", self.topics.base, "online" if is_online else "offline"
            )
        self.is_online = is_online
        self._check_ready()
        self._interrupted()

    @callback
    def _take_connection(self, _is_connected: bool) -> None:  # noqa: FBT001 - Home Assistant's
        self._interrupted()

    @callback
    def _interrupted(self) -> None:
        self._results.interrupted()
        self._notify(AVAILABILITY)
        if self.is_settled and self.is_available:
            self._results.catch_up_later()

    @callback
    def _check_ready(self) -> None:
        if self.is_online and self.info is not None:
            self._ready.set()

    def _read(self, message: mqtt.ReceiveMessage, read: Callable[[bytes], Any]) -> Any:
        try:
            return read(as_bytes(message.payload))
        except MalformedError as error:
            LOGGER.warning("%s: %s", message.topic, error)
            return None

    # Who listens.

    @callback
    def report_missed(self, _hass: HomeAssistant) -> None:
        """Report to the listeners of `RESULTS` what ended before Home Assistant had started.

        Automations listen from then on, and would miss what comes earlier.
        """
        self._results.report()

    @callback
    def tasks_changed(self) -> None:
        """Tell the listeners of `TASKS` that a person has added, changed or removed AI tasks."""
        self._notify(TASKS)

    @callback
    def _notify(self, what: str, *about: Any) -> None:
        for listener in list(self._listeners.get(what, ())):
            listener(*about)

    def _in_background(self, work: Coroutine[Any, Any, None]) -> None:
        self._spawn(work, f"{DOMAIN} {self.topics.base}")


def as_bytes(payload: str | bytes | bytearray) -> bytes:
    """Return a message's payload, as whatever Home Assistant hands it on."""
    return payload.encode() if isinstance(payload, str) else bytes(payload)


Comfy2MQTTConfigEntry: TypeAlias = ConfigEntry[Hub]


@callback
def bridges(hass: HomeAssistant) -> list[Comfy2MQTTConfigEntry]:
    """Return the entries of bridges; of one that was found and is ignored nothing is known."""
    return hass.config_entries.async_entries(DOMAIN, include_ignore=False)
