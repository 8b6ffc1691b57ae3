"""Errors as the contract knows them: a stable code, a sentence, and structured details.

Each class below BridgeError has a code of its own. One that is none of them has `bridge_error`: a
defect of ours, see `internal`.

`details` is plain JSON: the input or field concerned, what was wrong, what is allowed.
"""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec

from bridge.text import without_folders


class Error(msgspec.Struct, frozen=True):
    """An error on the wire."""

    code: str
    message: str
    details: dict[str, Any] = {}


class BridgeError(Exception):
    """The root: every failure that is reported to a client."""

    code: ClassVar[str] = "bridge_error"

    def __init__(self, message: str, **details: Any) -> None:
        super().__init__(message)
        self.message = message
        self.details = {key: value for key, value in details.items() if value is not None}

    def wire(self) -> Error:
        """Return the error as a message carries it: without the folders of any machine."""
        return Error(code=self.code, message=without_folders(self.message), details=self.details)


class BadRequest(BridgeError):
    """The request itself cannot be read: not JSON, a wrong type, an unknown field."""

    code = "bad_request"


class UnknownWorkflow(BridgeError):
    """No workflow of that name, or not in that version."""

    code = "unknown_workflow"


class UnknownJob(BridgeError):
    """This client has no job of that id, or it is no longer remembered."""

    code = "unknown_job"


class InvalidInput(BridgeError):
    """An input is unknown, missing, of the wrong type, or outside what is allowed."""

    code = "invalid_input"


class Forbidden(BridgeError):
    """The operator does not allow this; `details["setting"]` names what would."""

    code = "forbidden"


class TooLarge(BridgeError):
    """More bytes than a limit allows; `details` has `size` and `limit`."""

    code = "too_large"


class Busy(BridgeError):
    """No more work is taken at the moment; ask again later."""

    code = "busy"


class QuotaExceeded(BridgeError):
    """This client's own share of the queue is used up."""

    code = "quota_exceeded"


class Conflict(BridgeError):
    """The job id is taken by a request with another workflow, inputs or output."""

    code = "conflict"


class Expired(BridgeError):
    """The job did not start in time, or is kept no longer."""

    code = "expired"


class ComfyUIUnavailable(BridgeError):
    """No connected ComfyUI can run it."""

    code = "comfyui_unavailable"


class ExecutionError(BridgeError):
    """A node failed while the workflow ran, or ComfyUI refused the prompt."""

    code = "execution_error"


class OutOfMemory(BridgeError):
    """A node ran out of memory, also after memory was freed."""

    code = "out_of_memory"


class Timeout(BridgeError):
    """The job ran longer than `timeout_s` allows."""

    code = "timeout"


class Replaced(BridgeError):
    """A newer job with the same word in `replace` took its place; `details` has `by`."""

    code = "replaced"


class Quarantined(BridgeError):
    """The prompt ended a ComfyUI twice, and is refused for a time; `details` has `reason`."""

    code = "quarantined"


class Interrupted(BridgeError):
    """Somebody stopped the job at ComfyUI itself, such as on its page: it was cancelled."""

    code = "interrupted"


class DependencyFailed(BridgeError):
    """The job whose output it needs did not succeed."""

    code = "dependency_failed"


class DeliveryFailed(BridgeError):
    """A sink did not take an output, or a webhook the result."""

    code = "delivery_failed"


class Lost(BridgeError):
    """A job's outcome cannot be known any more, and running it again is not safe."""

    code = "lost"


def internal(error: Exception) -> BridgeError:
    """Return what a client learns of a defect, whose text is for the log alone."""
    return BridgeError(f"internal error ({type(error).__name__}); the bridge's log says where")


BY_CODE: dict[str, type[BridgeError]] = {kind.code: kind for kind in BridgeError.__subclasses__()}


def from_wire(error: Error) -> BridgeError:
    """Return the exception for an error that came over the wire.

    A code that this version does not know becomes a plain `BridgeError` with the code in its
    details, so that an old client still shows what a new bridge says.
    """
    kind = BY_CODE.get(error.code)
    if kind is None:
        return BridgeError(error.message, **{**error.details, "code": error.code})
    return kind(error.message, **error.details)
