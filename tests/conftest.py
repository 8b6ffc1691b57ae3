from __future__ import annotations

import gc
import os
import re
import signal
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from bridge.jobs.journal import Journal
from bridge.mosquitto import Mosquitto
from bridge.text import sendable
from tests.support.bridge import BridgeProcess
from tests.support.comfyui import Server, running_server, supervised
from tests.support.journals import with_tables
from tests.support.postgresql import PostgreSQL, running_postgresql

StartBridge = Callable[..., Any]

# A shell starts what runs in the background with SIGINT ignored, which programs that tests start
# would inherit.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# How long one example takes says how busy the machine is, not whether the code is right. Whoever
# changes the code runs these tests often, each time with other examples; a build server runs them
# once.
EXAMPLES = 100 if os.environ.get("CI") else 30
settings.register_profile(
    "any-load",
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("any-load")


def pytest_xdist_auto_num_workers() -> int:
    """One worker more than cores, since tests wait for processes, disks and timers as well.

    Each one more costs some three seconds of a core, to import and collect all tests.
    """
    return (os.cpu_count() or 1) + 1


# The marks that all tests of a file have.
_FILE_MARKS = re.compile(r"^pytestmark = (\[[^\]]*\]|.*)$", re.MULTILINE)
_ONLY_WITHOUT = re.compile(r"not \w+(?: and not \w+)*")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Do not import a file of which `-m "not broker and not slow"` would deselect every test.

    Of other expressions than such ones, and of files named on the command line, pytest decides.
    """
    expression = config.option.markexpr
    if not collection_path.match("test_*.py") or not _ONLY_WITHOUT.fullmatch(expression):
        return None
    marks = _FILE_MARKS.search(collection_path.read_text("utf-8"))
    found = re.findall(r"pytest\.mark\.(\w+)", marks[1]) if marks else []
    return True if {*found} & {*expression.replace(" and ", " ").split()} else None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Make a test's log sendable: a worker that cannot send its report ends the run.

    What is logged of a file whose name is not UTF-8 has halves of surrogate pairs.
    """
    report = yield
    report.sections = [(name, sendable(text)) for name, text in report.sections]
    return report


@pytest.fixture
async def journal(tmp_path: Path) -> AsyncIterator[Journal]:
    """The journal of a bridge alone, for one test."""
    journal = Journal(with_tables(tmp_path / "journal.db"))
    await journal.open()
    yield journal
    await journal.close()


@pytest.fixture(scope="session")
def comfyui(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One real ComfyUI for all tests that need one: it takes long to start."""
    with running_server(supervised(), tmp_path_factory.mktemp("comfyui")) as server:
        yield server


@pytest.fixture
async def broker(tmp_path: Path) -> AsyncIterator[Mosquitto]:
    """A real mosquitto with the project's settings, for one test."""
    async with Mosquitto(tmp_path / "mosquitto") as broker:
        yield broker


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgreSQL]:
    """One real PostgreSQL for all tests that need one."""
    with running_postgresql() as server:
        yield server


@pytest.fixture
async def bridges(broker: Mosquitto, tmp_path: Path) -> AsyncIterator[StartBridge]:
    """Makes bridges on the test's broker: `bridges(comfyui_url=..., workflows={...})`."""
    async with AsyncExitStack() as stack:

        async def make(
            name: str = "bridge",
            *,
            workflows: dict[str, Any] | None = None,
            start: bool = True,
            **settings: Any,
        ) -> BridgeProcess:
            process = BridgeProcess(tmp_path / name, **{"mqtt_url": broker.url, **settings})
            for workflow, graph in (workflows or {}).items():
                process.add_workflow(workflow, graph)
            if start:
                await stack.enter_async_context(process)
            else:
                stack.push_async_exit(process.__aexit__)
            return process

        yield make


@pytest.fixture
async def attached(bridges: StartBridge, comfyui: Server) -> StartBridge:
    """Makes bridges that attach to the tests' ComfyUI."""

    async def make(workflows: dict[str, Any], **options: Any) -> BridgeProcess:
        settings = {"comfyui_url": comfyui.url, "comfyui_secret": comfyui.secret, **options}
        process: BridgeProcess = await bridges(workflows=workflows, **settings)
        return process

    return make


@pytest.fixture
async def detached(bridges: StartBridge) -> StartBridge:
    """Makes bridges whose ComfyUI is away: they take jobs, and run none."""

    async def make(workflows: dict[str, Any], **options: Any) -> BridgeProcess:
        process: BridgeProcess = await bridges(
            workflows=workflows, start=False, comfyui_url="http://127.0.0.1:9", **options
        )
        await process.start(ready=False)
        await process.ready("unreachable")
        return process

    return make


# What is imported and collected stays until the end: looking for garbage in it finds none.
gc.disable()


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop() -> None:
    """Hides thousands of collected tests from the garbage collector, which begins here."""
    gc.freeze()
    gc.enable()
