"""The errors between the bridge and a ComfyUI.

    ComfyUIError
    ├── ComfyUIUnreachable   no connection, or none in time
    ├── UnexpectedAnswer     an HTTP status or a body that ComfyUI does not send
    │   ├── NotFound         404
    │   ├── ComfyUIForbidden 401 or 403: the secret or the proxy's password is wrong
    │   └── OutputGone       410: our nodes held it once and had to let it go
    ├── ReplyTooLarge        more bytes than the caller allows
    ├── PromptRejected       ComfyUI's validation refused all of it or a part
    ├── AlreadyFollowed      two callers follow the same prompt
    └── StartFailed          a supervised ComfyUI did not get ready, or did not stay

Each has a stable `code`. No message carries a secret or a URL's password.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, ClassVar, Literal, TypeAlias

import msgspec


class ValidationProblem(msgspec.Struct, frozen=True):
    """One thing that ComfyUI's validation found, in its own words.

    `type` is a word such as `value_not_in_list`; `extra_info` names the input (`input_name`).
    """

    type: str = "unknown"
    message: str = ""
    details: str = ""
    extra_info: Mapping[str, Any] = {}


class NodeProblems(msgspec.Struct, frozen=True):
    """All that validation found at one node, and the output nodes that cannot run because of it."""

    errors: tuple[ValidationProblem, ...] = ()
    dependent_outputs: tuple[str, ...] = ()
    class_type: str = ""


class ComfyUIError(Exception):
    """The root of these errors."""

    code: ClassVar[str] = "comfyui_error"

    @property
    def may_have_arrived(self) -> bool:
        """True if ComfyUI may have done what it was asked for nevertheless."""
        return False


class ComfyUIUnreachable(ComfyUIError):
    """No answer. `sent`: the request may have reached ComfyUI nevertheless."""

    code = "unreachable"

    def __init__(self, reason: str, *, sent: bool) -> None:
        super().__init__(f"ComfyUI cannot be reached: {reason}")
        self.reason = reason
        self.sent = sent

    @property
    def may_have_arrived(self) -> bool:
        """True if the request left."""
        return self.sent


class UnexpectedAnswer(ComfyUIError):
    """An answer that cannot be used. `excerpt` is the first characters of the body."""

    code = "unexpected_answer"

    def __init__(self, what: str, *, status: int, excerpt: str = "") -> None:
        said = f": {excerpt}" if excerpt else ""
        super().__init__(f"{what} was answered with status {status}{said}")
        self.what = what
        self.status = status
        self.excerpt = excerpt

    @property
    def may_have_arrived(self) -> bool:
        """True unless it is a refusal: a proxy that waits no longer answers in ComfyUI's place."""
        return not HTTPStatus.MULTIPLE_CHOICES <= self.status < HTTPStatus.INTERNAL_SERVER_ERROR


class NotFound(UnexpectedAnswer):
    """404."""

    code = "not_found"


class ComfyUIForbidden(UnexpectedAnswer):
    """401 or 403: the secret, or a proxy's password, is wrong or missing."""

    code = "forbidden"


class OutputGone(UnexpectedAnswer):
    """410: an output that was not fetched in time and that a newer one replaced."""

    code = "gone"


class ReplyTooLarge(ComfyUIError):
    """More bytes than the caller allows; `limit` is in bytes."""

    code = "reply_too_large"

    def __init__(self, what: str, *, limit: int) -> None:
        super().__init__(f"{what} was answered with more than {limit} bytes")
        self.what = what
        self.limit = limit

    @property
    def may_have_arrived(self) -> bool:
        """True: it was answered."""
        return True


class PromptRejected(ComfyUIError):
    """ComfyUI refused the prompt, or would have run only a part of it.

    `error` is the whole prompt's, `node_errors` the nodes' own, by node id. A part is refused as
    the whole is: a job with fewer outputs than were asked for is no success.
    """

    code = "prompt_rejected"

    def __init__(self, error: ValidationProblem, node_errors: Mapping[str, NodeProblems]) -> None:
        super().__init__(f"ComfyUI refused the prompt: {error.message or error.type}")
        self.error = error
        self.node_errors = node_errors


class AlreadyFollowed(ComfyUIError):
    """The prompt has a follower already; each event is given once only."""

    code = "already_followed"

    def __init__(self, prompt_id: str) -> None:
        super().__init__(f"prompt {prompt_id} is followed already")
        self.prompt_id = prompt_id


# Stable words: they are the `reason` of the retained state. docs/operations.md explains each.
StartFailure: TypeAlias = Literal[
    # It cannot be started.
    "not_linux",
    "no_interpreter",
    "no_comfyui",
    "no_folder",
    "no_guard",
    # It does not get ready.
    "port_taken",
    "nodes_missing",
    "start_timeout",
    # It ended: by itself, by a fault such as SIGSEGV, by a SIGKILL, by one because memory ran out.
    "exited",
    "crashed",
    "killed",
    "host_out_of_memory",
    # It is there and of no use.
    "worker_dead",
    "frozen",
    "hung",
]


class StartFailed(ComfyUIError):
    """A supervised ComfyUI did not get ready, or did not stay.

    `failure` is the stable word for the case; `log` is the last lines that ComfyUI printed.
    """

    code = "start_failed"

    def __init__(self, failure: StartFailure, reason: str, *, log: tuple[str, ...] = ()) -> None:
        super().__init__(reason)
        self.failure = failure
        self.reason = reason
        self.log = log


# The end of a Python traceback, an argument parser's complaint, the dynamic loader's, the kernel's.
_ERROR = re.compile(
    r"^(?:[A-Za-z_][\w.]*(?:Error|Exception|Interrupt|Exit)\b(?::|$)"
    r"|[\w./-]+: error: "
    r"|(?:.*: )?(?:Segmentation fault|Bus error|Illegal instruction)\b"
    r"|.*error while loading shared libraries: )"
)


def error_line(lines: Sequence[str]) -> str:
    """Return the last line that is an error's, else the last that says anything; "" without any."""
    said = [line.strip() for line in lines if line.strip()]
    errors = [line for line in said if _ERROR.match(line)]
    return (errors or said or [""])[-1]
