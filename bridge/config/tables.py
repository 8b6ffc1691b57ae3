"""Settings that are tables: `[[comfyui]]` and the like, each a Struct.

In the environment and in flags a table is JSON.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

Name = Annotated[str, Meta(pattern=r"\A[A-Za-z0-9_-]{1,64}\Z")]
# A client's name, or `*` for everybody.
Who = Annotated[str, Meta(pattern=r"\A(\*|[A-Za-z0-9_-]{1,64})\Z")]
# A path, or without a slash a name on the PATH. Text: as a Path "./python" is "python".
Program = Annotated[str, Meta(min_length=1)]
Number = Annotated[int, Meta(ge=1)]
Priority = Annotated[int, Meta(ge=-100, le=100)]


class Table(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of all tables: fixed once it is read, and without fields that mean nothing."""


class ComfyUI(Table, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One ComfyUI of several: with `url` one that runs already, with `path` one to start.

    `environment` are more variables for one that is started, such as CUDA_VISIBLE_DEVICES.
    `api_key` is that of an account at Comfy.org, for partner nodes; `api_key_file` is a file whose
    first line it is. `warm` is a workflow to be kept loaded. `gpu` names the graphics card, which
    other programs may then ask for; several ComfyUIs on one card have the same.
    """

    name: Name
    url: str | None = None
    secret: str | None = None
    path: Path | None = None
    python: Program | None = None
    args: tuple[str, ...] = ()
    environment: dict[str, str] = {}
    api_key: str | None = None
    api_key_file: Path | None = None
    warm: Annotated[str, Meta(min_length=1, max_length=200)] | None = None
    gpu: Name | None = None

    def read_api_key(self) -> str | None:
        """Return the key, None if none is set. Raises OSError and UnicodeError for the file."""
        if self.api_key_file is not None:
            return self.api_key_file.read_text().partition("\n")[0].strip()
        return self.api_key


class ClientRights(Table, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The rights of one client, or with the name `*` of everybody.

    What is left out is as `*` says, and what that leaves out as `bridge.requests.permissions` does.
    `workflows`, `displays` and `sink_folders` are names, with `*` and `?` for any characters;
    `input_topics` and `sink_topics` are MQTT filters, `url_hosts` private hosts. `sink_hosts` are
    names too, of which those without `*` and `?` may be private. `partner_nodes` allows nodes that
    cost money.
    `max_queue` counts jobs that wait, `max_set` those of sets that are yet to be made;
    `max_uploads` and `max_outputs` are bytes; `processor_per_s` is the share of a processor that
    its requests take.
    """

    workflows: tuple[str, ...] | None = None
    inline: bool | None = None
    partner_nodes: bool | None = None
    url_hosts: tuple[str, ...] | None = None
    input_topics: tuple[str, ...] | None = None
    displays: tuple[str, ...] | None = None
    sink_hosts: tuple[str, ...] | None = None
    sink_folders: tuple[str, ...] | None = None
    sink_topics: tuple[str, ...] | None = None
    max_priority: Priority | None = None
    max_queue: Number | None = None
    max_set: Number | None = None
    max_uploads: Number | None = None
    max_outputs: Number | None = None
    requests_per_s: Annotated[float, Meta(gt=0)] | None = None
    processor_per_s: Annotated[float, Meta(gt=0)] | None = None


class Call(Table, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One call of a hook: an HTTP request, an MQTT message or a command.

    `url` is asked with `method`, `headers` and `json`, and must answer 2xx. `topic` gets `payload`
    (anything but text as JSON); where `answer` is a topic, a message there is waited for, which has
    to be `expect` if that is set. `command` is a program and its arguments, and must end with 0.
    """

    url: str | None = None
    method: Literal["GET", "POST", "PUT", "DELETE"] = "POST"
    headers: dict[str, str] = {}
    json: Any = None
    topic: Annotated[str, Meta(min_length=1, max_length=1024)] | None = None
    payload: Any = ""
    answer: Annotated[str, Meta(min_length=1, max_length=1024)] | None = None
    expect: str | None = None
    command: tuple[str, ...] = ()


class Hook(Table, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Calls before ComfyUIs are busy, and after they were idle for `idle_s` seconds.

    A `preset` defines the calls of the program at `url`; "wake-on-lan" wakes the machine with the
    address `mac` and waits until `url` accepts a connection. Without `comfyui` it applies to all of
    them. `on_error` says whether jobs run or wait after a call that fails or takes longer than
    `timeout_s`.
    """

    name: Name
    preset: Literal["ollama", "llama.cpp", "vllm", "wake-on-lan"] | None = None
    url: str | None = None
    mac: Annotated[str, Meta(pattern=r"\A([0-9A-Fa-f]{2}[:-]){5}[0-9A-Fa-f]{2}\Z")] | None = None
    broadcast: str = "255.255.255.255"
    before_busy: Call | None = None
    after_idle: Call | None = None
    comfyui: tuple[Name, ...] = ()
    idle_s: Annotated[float, Meta(ge=0)] = 60.0
    timeout_s: Annotated[float, Meta(gt=0)] | None = None
    on_error: Literal["continue", "wait"] = "continue"


class Display(Table, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A display: what it takes, as a request's `output` would say it, and who may show there.

    `width` and `height` are pixels, the most that a picture may have; `*` in `clients` is
    everybody. Checked further by `bridge.adapters.displays`.
    """

    name: Name
    clients: tuple[str, ...] = ()
    width: int | None = None
    height: int | None = None
    format: str | None = None
    quality: int | None = None
    max_bytes: int | None = None
    dither: str | None = None


class Trigger(Table, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A job that a message of some other device starts.

    `when`, `job_id` and each `{path = "..."}` in `inputs` are JMESPath, read by
    `bridge.adapters.triggers`; without `when` every message on `topic`, a filter, fires. `retained`
    lets also those fire that the broker had from before. Times are seconds.
    """

    name: Name
    topic: Annotated[str, Meta(min_length=1, max_length=1024)]
    workflow: Annotated[str, Meta(min_length=1, max_length=200)]
    client: Name = "triggers"
    when: str | None = None
    inputs: dict[str, Any] = {}
    job_id: str | None = None
    retained: bool = False
    debounce_s: Annotated[float, Meta(ge=0)] = 0.0
    replace: bool = False
    show: Name | None = None
    priority: Priority = 0
    start_within_s: Annotated[float, Meta(gt=0)] | None = None
    output: dict[str, Any] = {}


class SinkFolder(Table, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A folder that outputs may be delivered to, as `folder:NAME`.

    `file` is the path of each file below it, with placeholders; `bridge.sinks.targets` reads it.
    """

    name: Name
    path: Path
    file: Annotated[str, Meta(min_length=1, max_length=500)] = (
        "{client}/{job_id}-{index}.{extension}"
    )


class Sink(Table, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A place for the outputs of some jobs (`put`), or a receiver of their results (`webhook`).

    `workflows` and `clients` say of which, by names with `*` and `?`. The rest is as in a request.
    """

    put: Annotated[str, Meta(min_length=1, max_length=4096)] | None = None
    webhook: Annotated[str, Meta(min_length=1, max_length=4096)] | None = None
    output: Annotated[int, Meta(ge=0)] | None = None
    headers: dict[str, str] = {}
    workflows: tuple[str, ...] = ("*",)
    clients: tuple[str, ...] = ("*",)
