"""Topics: the only place that builds or parses one.

Below one base level (`comfy2mqtt` by default) lie the bridge's own topics, the workflows' retained
definitions, and one tree per client. Every name in a topic is an id: `[A-Za-z0-9_-]{1,64}`, so that
neither a wildcard nor a level can be smuggled in.
"""

from __future__ import annotations

import re

import msgspec

from bridge.contract.errors import BadRequest

ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
ID_RULE = "1 to 64 of the characters A-Z a-z 0-9 _ -"

_OFFSET = re.compile(r"[0-9]{1,15}")

_VERB_LEVELS = 2

RUN = "run"
SUBMIT = "submit"
UPLOAD = "upload"
FIN = "fin"
# Verbs that make a job, by the simple form and the full one.
JOB_VERBS = (RUN, SUBMIT)


class RequestTopic(msgspec.Struct, frozen=True):
    """A request topic, read: `client/<client>/request/<verb>`, and for two verbs more.

    `run/<workflow>[/<job_id>]`; `upload/<upload_id>[/<offset>]`, `upload/<upload_id>/fin`.
    """

    client: str
    verb: str
    workflow: str | None = None
    job_id: str | None = None
    upload: str | None = None
    offset: int | None = None
    fin: bool = False


class BadTopic(BadRequest):
    """A request topic of the wrong shape; `client` and `verb` are what could be read of it.

    Both are valid ids, fit to build the topic of a reply.
    """

    def __init__(self, message: str, *, client: str, verb: str, topic: str) -> None:
        super().__init__(message, topic=topic)
        self.client = client
        self.verb = verb


def is_id(text: str) -> bool:
    """True if `text` may stand as one name in a topic."""
    return ID.fullmatch(text) is not None


def matches(topic_filter: str, topic: str) -> bool:
    """True if a topic matches a filter (MQTT 5, 4.7); no wildcard matches a topic of the broker's.

    A filter that is malformed matches nothing.
    """
    wanted, found = topic_filter.split("/"), topic.split("/")
    if topic.startswith("$") and wanted[0] in ("+", "#"):
        return False
    for index, level in enumerate(wanted):
        if level == "#":
            return index == len(wanted) - 1
        if index >= len(found) or (level not in ("+", found[index])):
            return False
    return len(wanted) == len(found)


def is_filter(text: str) -> bool:
    """True if `text` is a filter that one may subscribe to by oneself (MQTT 5, 4.7.1)."""
    levels = text.split("/")
    if not text or levels[0] == "$share":
        return False
    if levels[-1] == "#":
        levels.pop()
    return all(level == "+" or not set(level) & set("+#\0") for level in levels)


class Topics:
    """All topics below one base."""

    def __init__(self, base: str = "comfy2mqtt") -> None:
        self.base = base
        self._clients = f"{base}/client/"

    # The bridge's own.

    @property
    def state(self) -> str:
        """`online` or `offline`, retained, the last will."""
        return f"{self.base}/bridge/state"

    @property
    def info(self) -> str:
        """Name, versions, limits; retained."""
        return f"{self.base}/bridge/info"

    @property
    def health(self) -> str:
        """Queue depth, memory, counters; retained, expires."""
        return f"{self.base}/bridge/health"

    def member_health(self, name: str) -> str:
        """The topic of one bridge's own health in a group; retained, expires."""
        return f"{self.health}/{name}"

    def member(self, name: str) -> str:
        """The topic of a bridge's presence in a group; retained, its last will."""
        return f"{self.base}/bridge/member/{name}"

    @property
    def event(self) -> str:
        """Notable events."""
        return f"{self.base}/bridge/event"

    @property
    def log(self) -> str:
        """Warnings and worse of the bridge's log."""
        return f"{self.base}/bridge/log"

    @property
    def commands(self) -> str:
        """The filter for every command of an operator."""
        return f"{self.base}/bridge/request/#"

    def command(self, verb: str) -> str:
        """The topic of an admin command, such as `comfyui/start`."""
        return f"{self.base}/bridge/request/{verb}"

    def command_response(self, verb: str) -> str:
        """The topic of its answer."""
        return f"{self.base}/bridge/response/{verb}"

    def parse_command(self, topic: str) -> str | None:
        """Return the verb of a command's topic, known or not; None if there is nobody to answer.

        Its levels are valid ids, fit to build the topic of the answer.
        """
        prefix = f"{self.base}/bridge/request/"
        verb = topic.removeprefix(prefix)
        levels = verb.split("/")
        valid = len(levels) <= _VERB_LEVELS and all(map(is_id, levels))
        return verb if topic.startswith(prefix) and valid else None

    def probe(self, name: str, what: str) -> str:
        """A topic on which a bridge sends itself what the broker is tried with."""
        return f"{self.base}/bridge/probe/{name}/{what}"

    def comfyui(self, instance: str) -> str:
        """One ComfyUI's state; retained."""
        return f"{self.base}/bridge/comfyui/{instance}"

    def gpu(self, name: str) -> str:
        """The holder of a GPU, and those who wait for it; retained."""
        return f"{self.base}/bridge/gpu/{name}"

    def choices(self, name: str) -> str:
        """A list of choices too long for the definitions that use it; retained."""
        return f"{self.base}/bridge/choices/{name}"

    def workflow(self, name: str) -> str:
        """One workflow's definition; retained, cleared when the file is removed."""
        return f"{self.base}/workflow/{name}"

    def display_image(self, name: str) -> str:
        """The last picture for a display; retained."""
        return f"{self.base}/display/{name}/image"

    def display_url(self, name: str) -> str:
        """The topic of the URL of that picture, as plain text; retained."""
        return f"{self.base}/display/{name}/url"

    @property
    def public(self) -> tuple[str, ...]:
        """Filters for what every client may read: the bridge's own topics, and definitions."""
        own = ("state", "info", "health", "event", "comfyui/+", "choices/+")
        return (*(f"{self.base}/bridge/{each}" for each in own), f"{self.base}/workflow/+")

    def public_of(self, topic: str) -> tuple[str, str | None] | None:
        """Return a public topic's kind and subject: `info`, or `comfyui` and an instance."""
        match topic.removeprefix(f"{self.base}/").split("/"):
            case ["bridge", "state" | "info" | "health" | "event" as what]:
                return what, None
            case ["bridge", "comfyui" | "choices" as what, name] if is_id(name):
                return what, name
            case ["workflow", name] if is_id(name):
                return "workflow", name
        return None

    @property
    def display_images(self) -> str:
        """The filter for the last picture of every display."""
        return f"{self.base}/display/+/image"

    def display_of(self, topic: str) -> str | None:
        """Return the display whose last picture lies at a topic."""
        match topic.removeprefix(f"{self.base}/").split("/"):
            case ["display", name, "image"] if is_id(name):
                return name
        return None

    @property
    def retained(self) -> tuple[str, ...]:
        """Filters for everything that the bridge retains and may have to clear."""
        return (
            f"{self.base}/workflow/+",
            f"{self.base}/bridge/comfyui/+",
            f"{self.base}/bridge/choices/+",
            f"{self.base}/bridge/gpu/+",
            self.member_health("+"),
        )

    def covers(self, topic_filter: str) -> bool:
        """True if a filter may match something below the base."""
        return topic_filter.split("/", maxsplit=1)[0] in ("+", "#", self.base)

    # A client's tree.

    @property
    def requests(self) -> str:
        """The filter for every client's requests."""
        return f"{self._clients}+/request/#"

    @property
    def clients(self) -> str:
        """The filter for everything of every client."""
        return f"{self._clients}#"

    def request(self, client: str, verb: str, *names: str) -> str:
        """The topic of a request of `client`."""
        return "/".join((f"{self._clients}{client}/request", verb, *names))

    def response(self, client: str, verb: str) -> str:
        """The topic of the answer to a request of `client`."""
        return f"{self._clients}{client}/response/{verb}"

    def responses(self, client: str) -> str:
        """The filter for every answer to `client`."""
        return f"{self._clients}{client}/response/+"

    def job(self, client: str, job_id: str, *names: str) -> str:
        """A topic of one job: `status`, `progress`, `preview`, `output/<i>`, `result`."""
        return "/".join((f"{self._clients}{client}/job/{job_id}", *names))

    def jobs(self, client: str) -> str:
        """The filter for everything about the jobs of `client`."""
        return f"{self._clients}{client}/job/#"

    def job_of(self, topic: str) -> tuple[str, tuple[str, ...]] | None:
        """Return the job id and the levels after it, for a topic of a client's job."""
        if not topic.startswith(self._clients):
            return None
        match topic.removeprefix(self._clients).split("/"):
            case [_, "job", job_id, *rest] if rest:
                return job_id, tuple(rest)
        return None

    def job_set(self, client: str, set_id: str, *names: str) -> str:
        """A topic of one set of jobs: `status`, `output/0`, `result`."""
        return "/".join((f"{self._clients}{client}/set/{set_id}", *names))

    def sets(self, client: str) -> str:
        """The filter for everything about the sets of `client`."""
        return f"{self._clients}{client}/set/#"

    def set_of(self, topic: str) -> tuple[str, tuple[str, ...]] | None:
        """Return the set's id and the levels after it, for a topic of a client's set."""
        if not topic.startswith(self._clients):
            return None
        match topic.removeprefix(self._clients).split("/"):
            case [_, "set", set_id, *levels]:
                return set_id, tuple(levels)
        return None

    def client_of(self, topic: str) -> tuple[str, tuple[str, ...]] | None:
        """Return the client whose tree a topic lies in, and the levels after it."""
        if not topic.startswith(self._clients):
            return None
        client, *rest = topic.removeprefix(self._clients).split("/")
        return (client, tuple(rest)) if rest else None

    def reply(self, client: str) -> str:
        """Below which topic `client` may have itself answered."""
        return f"{self._clients}{client}/reply/"

    def is_reply(self, client: str, topic: str) -> bool:
        """True if a Response Topic is one that `client` may name.

        Those are topics below `client/<client>/reply/`, without wildcards: a client must not have
        the bridge write into another client's tree, or send itself requests.
        """
        prefix = self.reply(client)
        rest = topic.removeprefix(prefix)
        return topic.startswith(prefix) and bool(rest) and not set(rest) & set("+#$\0")

    def parse_request(self, topic: str) -> RequestTopic | None:
        """Read a request topic.

        Returns None for a topic that names no valid client or verb: there is nobody to answer.
        Raises BadTopic where client and verb are valid but the rest is not.
        """
        if not topic.startswith(self._clients):
            return None
        client, _, rest = topic.removeprefix(self._clients).partition("/")
        verb, *names = rest.removeprefix("request/").split("/")
        if not (rest.startswith("request/") and is_id(client) and is_id(verb)):
            return None
        return _request(client, verb, names, topic)


class HomeAssistantTopics:
    """The topics of Home Assistant: discovery below its prefix, the rest below our base.

    `name` is a workflow's, `key` an input's; both are ids.
    """

    def __init__(self, topics: Topics, prefix: str) -> None:
        self.tree = f"{topics.base}/homeassistant/"
        self._prefix = prefix

    @property
    def birth(self) -> str:
        """The topic on which Home Assistant reports that it has started."""
        return f"{self._prefix}/status"

    @property
    def discovered(self) -> str:
        """The filter for all devices that anybody announces; retained."""
        return f"{self._prefix}/device/+/config"

    def discovery(self, device: str) -> str:
        """The discovery topic of a device; retained."""
        return f"{self._prefix}/device/{device}/config"

    def state(self, name: str, what: str) -> str:
        """The state topic of an entity: `image`, `progress`, ...; retained, but for events."""
        return f"{self.tree}{name}/{what}"

    def input(self, name: str, key: str) -> str:
        """The topic of the value of an input; retained."""
        return f"{self.tree}{name}/input/{key}"

    def input_allowed(self, name: str, key: str) -> str:
        """The topic of what an input with very many choices takes; retained."""
        return f"{self.tree}{name}/input/{key}/allowed"

    def input_command(self, name: str, key: str) -> str:
        """The command topic of an input."""
        return f"{self.tree}{name}/input/{key}/set"

    def run_command(self, name: str) -> str:
        """The command topic of a workflow's button."""
        return f"{self.tree}{name}/run"

    def job(self, name: str, job_id: str) -> str:
        """The topic on which the bridges of a group tell each other of a job."""
        return f"{self.tree}{name}/job/{job_id}"

    @property
    def jobs(self) -> str:
        """The filter for what the bridges of a group tell each other of jobs."""
        return f"{self.tree}+/job/+"

    def parse_job(self, topic: str) -> tuple[str, str] | None:
        """Return the workflow and the job that bridges of a group tell each other of."""
        if not topic.startswith(self.tree):
            return None
        match topic.removeprefix(self.tree).split("/"):
            case [name, "job", job_id] if is_id(name) and is_id(job_id):
                return name, job_id
        return None

    @property
    def commands(self) -> tuple[str, ...]:
        """The filters for all commands."""
        return f"{self.tree}+/run", f"{self.tree}+/input/+/set"

    def parse_command(self, topic: str) -> tuple[str, str | None] | None:
        """Return the workflow that a command is for, and the input, or None to run it."""
        if not topic.startswith(self.tree):
            return None
        match topic.removeprefix(self.tree).split("/"):
            case [name, "run"] if is_id(name):
                return name, None
            case [name, "input", key, "set"] if is_id(name) and is_id(key):
                return name, key
        return None


def _request(client: str, verb: str, names: list[str], topic: str) -> RequestTopic:
    match verb, names:
        case "run", [workflow] if is_id(workflow):
            return RequestTopic(client, verb, workflow)
        case "run", [workflow, job_id] if is_id(workflow) and is_id(job_id):
            return RequestTopic(client, verb, workflow, job_id)
        case "upload", [upload] if is_id(upload):
            return RequestTopic(client, verb, upload=upload)
        case "upload", [upload, "fin"] if is_id(upload):
            return RequestTopic(client, verb, upload=upload, fin=True)
        case "upload", [upload, offset] if is_id(upload) and _OFFSET.fullmatch(offset):
            return RequestTopic(client, verb, upload=upload, offset=int(offset))
        case "upload", _:
            shape = f"request/upload/<id>[/<offset>] or .../fin, the id {ID_RULE}"
        case "run", _:
            shape = f"request/run/<workflow>[/<job_id>], each {ID_RULE}"
        case _, []:
            return RequestTopic(client, verb)
        case _:
            shape = f"request/{verb}, with nothing after it"
    raise BadTopic(f"the topic must end in {shape}", client=client, verb=verb, topic=topic)
