"""Nodes that fail on purpose. A ComfyUI node package for tests only: put the folder above this
one on the path for custom nodes.

    TestImage          a noise image of its own for each seed; also broken ones
    TestRaise          raises RuntimeError with the text given
    TestBlock          blocks what comes after it, with an ExecutionBlocker
    TestMakeAndShow    an output node that makes a text, not only shows it
    TestOutOfMemory    raises torch.cuda.OutOfMemoryError; the process lives
    TestExit           raises SystemExit: ComfyUI's worker thread ends, HTTP works
    TestHang           sleeps in C with the GIL released: no interrupt reaches it
    TestSleep          sleeps in steps, with progress, and can be interrupted
    TestProgress       progress (and previews) at a rate
    TestKill           SIGKILL to the ComfyUI process
    TestSpawn          leaves a child process behind, its pid in a file
    TestPrompt         tells its text; ComfyUI's page draws the choices in it
    TestWrite          writes a file into ComfyUI's output folder, as savers do
    TestTally          appends a line to a file: what ran to completion, and how often
    TestCheckpoint     wants a checkpoint that is there, and loads none

Each passes on the image it is given, so it stands between a source and an output. In `odd` are
output nodes that report what they made in unusual ways.

`GET /comfy2mqtt_tests/waits` tells for how many seconds ComfyUI waited for each prompt since it
was last asked.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import tempfile
import time
from importlib import import_module
from pathlib import Path
from typing import Any

from .odd import NODES as ODD_NODES

# ComfyUI's modules are not there where these lines are type-checked.
comfy_model_management: Any = import_module("comfy.model_management")
comfy_utils: Any = import_module("comfy.utils")
folder_paths: Any = import_module("folder_paths")
torch: Any = import_module("torch")
ExecutionBlocker: Any = import_module("comfy_execution.graph").ExecutionBlocker

_CHILD = "import time\nwhile True: time.sleep(60)"

InputTypes = dict[str, dict[str, Any]]


class Fault:
    """A node that passes its image on, after what it is there for. `own`: optional inputs."""

    CATEGORY = "comfy2mqtt tests"
    FUNCTION = "run"
    RETURN_TYPES: tuple[str, ...] = ("IMAGE",)

    @classmethod
    def own(cls) -> dict[str, Any]:
        return {}

    @classmethod
    def INPUT_TYPES(cls) -> InputTypes:  # noqa: N802 - ComfyUI's name
        return {"required": {"image": ("IMAGE",)}, "optional": cls.own()}

    @classmethod
    def IS_CHANGED(cls, **_inputs: object) -> float:  # noqa: N802 - ComfyUI's name
        """A fault that came from the cache would not happen."""
        return float("nan")


class TestImage:
    CATEGORY = Fault.CATEGORY
    FUNCTION = "run"
    RETURN_TYPES = ("IMAGE",)

    @classmethod
    def INPUT_TYPES(cls) -> InputTypes:  # noqa: N802 - ComfyUI's name
        return {
            "required": {
                "width": ("INT", {"default": 64, "min": 0, "max": 65536}),
                "height": ("INT", {"default": 64, "min": 0, "max": 65536}),
                "channels": ("INT", {"default": 3, "min": 1, "max": 8}),
                "count": ("INT", {"default": 1, "min": 0, "max": 64}),
                "seed": ("INT", {"default": 0, "min": 0, "max": 2**53}),
                "kind": (["noise", "black", "nan", "out_of_range"],),
            }
        }

    def run(
        self, *, width: int, height: int, channels: int, count: int, seed: int, kind: str
    ) -> tuple[Any]:
        shape = (count, height, width, channels)
        if kind == "black":
            return (torch.zeros(shape),)
        noise = torch.rand(shape, generator=torch.Generator().manual_seed(seed))
        if kind == "nan":
            noise[..., 0] = float("nan")
        if kind == "out_of_range":
            noise = noise * 4.0 - 2.0
        return (noise,)


class TestRaise(Fault):
    @classmethod
    def own(cls) -> dict[str, Any]:
        return {"message": ("STRING", {"default": "on purpose"})}

    def run(self, *, message: str = "on purpose", **_inputs: object) -> tuple[Any]:
        raise RuntimeError(message)


class TestBlock(Fault):
    """Blocks what comes after it, silently or with a message, as a switch does."""

    @classmethod
    def own(cls) -> dict[str, Any]:
        return {"message": ("STRING", {"default": ""})}

    def run(self, *, image: object, message: str = "") -> tuple[Any]:
        return (ExecutionBlocker(message or None) if image is not None else image,)


class TestMakeAndShow:
    """An output node that does work of its own, as samplers with a preview do."""

    CATEGORY = Fault.CATEGORY
    FUNCTION = "run"
    RETURN_TYPES = ()
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls) -> InputTypes:  # noqa: N802 - ComfyUI's name
        return {"required": {"image": ("IMAGE",), "text": ("STRING", {"default": ""})}}

    def run(self, *, image: object, text: str) -> dict[str, Any]:
        return {"ui": {"text": [f"{text} {image is not None}"]}}


class TestOutOfMemory(Fault):
    """`times`: how often in this process before it works, so that a retry can succeed."""

    _raised = 0

    @classmethod
    def own(cls) -> dict[str, Any]:
        return {"times": ("INT", {"default": 1_000_000, "min": 0, "max": 1_000_000})}

    def run(self, *, image: object, times: int = 1_000_000) -> tuple[Any]:
        if TestOutOfMemory._raised >= times:
            return (image,)
        TestOutOfMemory._raised += 1
        message = "CUDA out of memory. Tried to allocate 20.00 GiB"
        raise torch.cuda.OutOfMemoryError(message)


def _first_time(once_file: str) -> bool:
    """True if a file was not there yet; it is then. Without a name it is always so."""
    if once_file:
        if Path(once_file).exists():
            return False
        Path(once_file).touch()
    return True


class TestExit(Fault):
    """`once_file`: a file that is made first; where it exists already the node only passes."""

    @classmethod
    def own(cls) -> dict[str, Any]:
        return {"once_file": ("STRING", {"default": ""})}

    def run(self, *, image: object, once_file: str = "") -> tuple[Any]:
        if _first_time(once_file):
            raise SystemExit
        return (image,)


class TestHang(Fault):
    @classmethod
    def own(cls) -> dict[str, Any]:
        return {"seconds": ("INT", {"default": 60, "min": 0, "max": 86_400})}

    def run(self, *, image: object, seconds: int = 60) -> tuple[Any]:
        ctypes.CDLL(None).sleep(seconds)
        return (image,)


class TestSleep(Fault):
    """`seconds` in steps of `step` seconds, a progress event each; the event is sent first."""

    @classmethod
    def own(cls) -> dict[str, Any]:
        return {
            "seconds": ("FLOAT", {"default": 1.0, "min": 0.0, "max": 86_400.0}),
            "step": ("FLOAT", {"default": 0.05, "min": 0.001, "max": 60.0}),
        }

    def run(self, *, image: object, seconds: float = 1.0, step: float = 0.05) -> tuple[Any]:
        steps = max(1, round(seconds / step))
        bar = comfy_utils.ProgressBar(steps)
        for done in range(1, steps + 1):
            bar.update_absolute(done, steps)
            time.sleep(seconds / steps)
            comfy_model_management.throw_exception_if_processing_interrupted()
        return (image,)


class TestProgress(Fault):
    """`count` progress events, `rate` a second (0: at once), with noise previews or without.

    A preview goes with every `preview_every`-th.
    """

    @classmethod
    def own(cls) -> dict[str, Any]:
        return {
            "count": ("INT", {"default": 10, "min": 1, "max": 1_000_000}),
            "rate": ("FLOAT", {"default": 0.0, "min": 0.0, "max": 100_000.0}),
            "preview_size": ("INT", {"default": 0, "min": 0, "max": 4096}),
            "preview_every": ("INT", {"default": 1, "min": 1, "max": 1_000_000}),
        }

    def run(
        self,
        *,
        image: object,
        count: int = 10,
        rate: float = 0.0,
        preview_size: int = 0,
        preview_every: int = 1,
    ) -> tuple[Any]:
        picture: Any = import_module("PIL.Image")
        bar = comfy_utils.ProgressBar(count)
        for done in range(1, count + 1):
            preview = None
            if preview_size and done % preview_every == 0:
                noise = picture.effect_noise((preview_size, preview_size), 64.0).convert("RGB")
                preview = ("JPEG", noise, None)
            bar.update_absolute(done, count, preview)
            if rate:
                time.sleep(1.0 / rate)
        return (image,)


class TestKill(Fault):
    """`once_file`: a file that is made first; where it exists already the node only passes."""

    @classmethod
    def own(cls) -> dict[str, Any]:
        by = {"default": int(signal.SIGKILL), "min": 1, "max": 64}
        return {"once_file": ("STRING", {"default": ""}), "signal": ("INT", by)}

    def run(
        self, *, image: object, once_file: str = "", signal: int = int(signal.SIGKILL)
    ) -> tuple[Any]:
        if _first_time(once_file):
            os.kill(os.getpid(), signal)
        return (image,)


class TestSpawn(Fault):
    """The child sleeps for ever; whoever stops ComfyUI's process group stops it too."""

    @classmethod
    def own(cls) -> dict[str, Any]:
        return {"pid_file": ("STRING", {"default": ""})}

    def run(self, *, image: object, pid_file: str) -> tuple[Any]:
        child = subprocess.Popen([sys.executable, "-c", _CHILD])
        Path(pid_file).write_text(str(child.pid), encoding="ascii")
        return (image,)


class TestWrite(Fault):
    """The file goes at once, so that the disk is as full as whoever filled it left it."""

    @classmethod
    def own(cls) -> dict[str, Any]:
        return {"size": ("INT", {"default": 65536, "min": 0, "max": 2**30})}

    def run(self, *, image: object, size: int = 65536) -> tuple[Any]:
        folder = Path(folder_paths.get_output_directory())
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder) as file:
            file.write(bytes(size))
            file.flush()
        return (image,)


class TestTally(Fault):
    """`tag` names the job; a line in one write, so that those of several processes don't mix."""

    @classmethod
    def own(cls) -> dict[str, Any]:
        return {"file": ("STRING", {"default": ""}), "tag": ("STRING", {"default": ""})}

    def run(self, *, image: object, file: str, tag: str) -> tuple[Any]:
        handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            os.write(handle, f"{tag}\n".encode())
        finally:
            os.close(handle)
        return (image,)


class TestCheckpoint(Fault):
    @classmethod
    def own(cls) -> dict[str, Any]:
        return {"ckpt_name": (folder_paths.get_filename_list("checkpoints"),)}

    def run(self, *, image: object, ckpt_name: str) -> tuple[Any]:
        del ckpt_name
        return (image,)


class TestPrompt:
    """Tells its text, whose choices ComfyUI's page draws."""

    RETURN_TYPES = ()
    FUNCTION = "report"
    CATEGORY = "test"
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls) -> InputTypes:  # noqa: N802 - ComfyUI's name
        return {"required": {"text": ("STRING", {"multiline": True, "dynamicPrompts": True})}}

    def report(self, text: str) -> dict[str, Any]:
        return {"ui": {"text": [text]}}


def _count_waits() -> None:
    """Note how long the worker's thread is in its queue's `get`, for a route of the tests."""
    server: Any = import_module("server").PromptServer.instance
    web: Any = import_module("aiohttp.web")
    get = server.prompt_queue.get
    waits: list[float] = []

    def counting(timeout: float | None = None) -> Any:
        began = time.perf_counter()
        item = get(timeout)
        if item is not None:
            waits.append(time.perf_counter() - began)
        return item

    async def report(_request: object) -> Any:
        found = waits.copy()
        waits.clear()
        return web.json_response(found)

    server.prompt_queue.get = counting
    server.routes.get("/comfy2mqtt_tests/waits")(report)


_count_waits()

NODE_CLASS_MAPPINGS = {
    node.__name__: node
    for node in (
        TestImage,
        TestRaise,
        TestBlock,
        TestMakeAndShow,
        TestOutOfMemory,
        TestExit,
        TestHang,
        TestSleep,
        TestProgress,
        TestKill,
        TestSpawn,
        TestWrite,
        TestTally,
        TestCheckpoint,
        TestPrompt,
        *ODD_NODES,
    )
}
