"""The supervisor against programs that stand in for a ComfyUI gone wrong."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from bridge.comfyui import supervisor
from bridge.comfyui.errors import StartFailed
from bridge.comfyui.in_use import STAMP, is_marked
from bridge.comfyui.settings import SuperviseConfig
from bridge.comfyui.supervisor import PlannedRestart, Running, Supervisor
from tests.comfyui.stand_ins import greeter, stand_in
from tests.support.comfyui import wait_for_end
from tests.support.patience import PATIENCE_S


class Watch:
    """Runs a supervisor and keeps what it tells."""

    def __init__(self, config: SuperviseConfig, folder: Path) -> None:
        self.starts = 0
        self.ready: asyncio.Queue[Running] = asyncio.Queue()
        self.failures: asyncio.Queue[tuple[StartFailed, PlannedRestart]] = asyncio.Queue()
        self.stops: asyncio.Queue[None] = asyncio.Queue()
        self.useless: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.supervisor = Supervisor(
            config,
            folder / "data",
            on_start=self._started,
            on_failure=self._failed,
            on_stop=lambda: self.stops.put_nowait(None),
        )

    def _started(self) -> None:
        self.starts += 1

    def _failed(self, failure: StartFailed, restart: PlannedRestart) -> None:
        self.failures.put_nowait((failure, restart))

    async def _attend(self, running: Running) -> None:
        self.ready.put_nowait(running)
        await self.useless

    async def run(self) -> None:
        await self.supervisor.run(self._attend)


@asynccontextmanager
async def watched(config: SuperviseConfig, folder: Path) -> AsyncIterator[Watch]:
    watch = Watch(config, folder)
    running = asyncio.create_task(watch.run())
    try:
        async with asyncio.timeout(PATIENCE_S):
            yield watch
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def first_failure(
    config: SuperviseConfig, folder: Path
) -> tuple[StartFailed, PlannedRestart]:
    async with watched(config, folder) as watch:
        return await watch.failures.get()


async def test_it_is_ready_when_our_nodes_answer_from_our_child(tmp_path: Path) -> None:
    async with watched(stand_in(tmp_path, greeter()), tmp_path) as watch:
        running = await watch.ready.get()
        assert running.base_url.startswith("http://127.0.0.1:")
        assert not running.unguarded
    assert wait_for_end(running.pid)


async def test_its_install_is_marked_as_in_use_until_the_bridge_ends(tmp_path: Path) -> None:
    (tmp_path / STAMP).touch()
    assert not is_marked(tmp_path)
    async with watched(stand_in(tmp_path, greeter()), tmp_path) as watch:
        await watch.ready.get()
        assert is_marked(tmp_path)
        watch.supervisor.stop()
        await watch.stops.get()
        assert is_marked(tmp_path)
    assert not is_marked(tmp_path)


async def test_one_that_answers_without_the_secret_is_found_out(tmp_path: Path) -> None:
    """Our nodes guard it, and that is tried: its version may not let itself be guarded."""
    config = stand_in(tmp_path, greeter(), environment={"COMFY2MQTT_GUARD": "0"})
    async with watched(config, tmp_path) as watch:
        assert (await watch.ready.get()).unguarded


@pytest.mark.slow
async def test_an_answer_from_a_foreign_process_is_not_ready(tmp_path: Path) -> None:
    config = stand_in(tmp_path, greeter(pid="1"), start_timeout_s=1.0)
    failure, _ = await first_failure(config, tmp_path)
    assert failure.failure == "start_timeout"


async def test_a_comfyui_without_our_nodes_is_recognized(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridge.comfyui.supervisor._NO_NODES_AFTER_S", 0.2)
    failure, restart = await first_failure(stand_in(tmp_path, greeter(status=404)), tmp_path)
    assert failure.failure == "nodes_missing"
    assert restart.crash_loop


async def test_an_early_exit_is_reported_with_the_last_line(tmp_path: Path) -> None:
    code = "import sys; print('torch is missing'); sys.exit(3)"
    failure, restart = await first_failure(stand_in(tmp_path, code), tmp_path)
    assert failure.failure == "exited"
    assert str(failure) == "ComfyUI exited with code 3: torch is missing"
    assert failure.log == ("torch is missing",)
    assert not restart.crash_loop


@pytest.mark.slow
async def test_a_kill_is_distinguished_from_an_exit(tmp_path: Path) -> None:
    async with watched(stand_in(tmp_path, greeter()), tmp_path) as watch:
        running = await watch.ready.get()
        os.kill(running.pid, signal.SIGKILL)
        failure, restart = await watch.failures.get()
        again = await watch.ready.get()
    assert failure.failure == "killed"
    assert "SIGKILL" in str(failure)
    assert not restart.crash_loop
    assert again.pid != running.pid
    assert again.epoch != running.epoch
    assert again.secret != running.secret


@pytest.mark.slow
async def test_one_killed_while_it_loads_is_started_again(tmp_path: Path) -> None:
    loading = tmp_path / "loading"
    os.mkfifo(loading)
    code = f"""
import os, pathlib, time
if not pathlib.Path("second").exists():
    pathlib.Path("second").touch()
    with open({str(loading)!r}, "w") as told: print(os.getpid(), file=told)
    time.sleep(600)
"""
    async with watched(stand_in(tmp_path, code + greeter()), tmp_path) as watch:
        os.kill(int(await asyncio.to_thread(loading.read_text)), signal.SIGKILL)
        assert (await watch.failures.get())[0].failure == "killed"
        await watch.ready.get()


async def test_a_kill_by_the_limit_of_memory_is_recognized(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counters = tmp_path / "vmstat"
    counters.write_text("pgfault 1\noom_kill 3\n", encoding="ascii")
    monkeypatch.setattr("bridge.comfyui.supervisor._VMSTAT", counters)
    async with watched(stand_in(tmp_path, greeter()), tmp_path) as watch:
        running = await watch.ready.get()
        counters.write_text("pgfault 1\noom_kill 4\n", encoding="ascii")
        os.kill(running.pid, signal.SIGKILL)
        failure, _ = await watch.failures.get()
    assert failure.failure == "host_out_of_memory"


@pytest.fixture
def little_memory() -> Iterator[Path]:
    """A control group whose processes may have 64 MB together; where this host lets us make one."""
    root = Path("/sys/fs/cgroup")
    first = (root / "cgroup.controllers").is_file()
    group = (root if first else root / "memory") / f"comfy2mqtt-test-{os.getpid()}"
    try:
        group.mkdir()
        limit = group / ("memory.max" if first else "memory.limit_in_bytes")
        limit.write_text(str(64 * 2**20), encoding="ascii")
        swap = group / ("memory.swap.max" if first else "memory.swappiness")
        swap.write_text("0", encoding="ascii")
    except OSError as error:
        pytest.skip(f"no control group can be made here: {error}")
    yield group
    group.rmdir()


async def test_one_that_the_host_has_no_memory_for_is_recognized(
    tmp_path: Path, little_memory: Path
) -> None:
    code = f"""
import os, pathlib
pathlib.Path({str(little_memory / "cgroup.procs")!r}).write_text(str(os.getpid()))
bytearray(512 * 2**20)
"""
    failure, _ = await first_failure(stand_in(tmp_path, code), tmp_path)
    assert failure.failure == "host_out_of_memory"


async def test_a_crash_is_distinguished_from_a_kill(tmp_path: Path) -> None:
    async with watched(stand_in(tmp_path, greeter()), tmp_path) as watch:
        running = await watch.ready.get()
        os.kill(running.pid, signal.SIGSEGV)
        failure, _ = await watch.failures.get()
    assert (failure.failure, str(failure)) == ("crashed", "ComfyUI was killed by SIGSEGV")


async def test_one_that_is_of_no_use_is_killed_also_when_it_is_stopped(tmp_path: Path) -> None:
    config = stand_in(tmp_path, "print('last words')" + greeter(), stop_grace_s=600)
    async with watched(config, tmp_path) as watch:
        running = await watch.ready.get()
        os.kill(running.pid, signal.SIGSTOP)
        watch.useless.set_exception(StartFailed("frozen", "it does not answer"))
        failure, restart = await watch.failures.get()
        assert wait_for_end(running.pid)
    assert (failure.failure, failure.log) == ("frozen", ("last words",))
    assert not restart.crash_loop


@pytest.mark.slow
async def test_after_a_stop_it_stays_stopped_until_a_start(tmp_path: Path) -> None:
    async with watched(stand_in(tmp_path, greeter()), tmp_path) as watch:
        first = await watch.ready.get()
        watch.supervisor.stop()
        await watch.stops.get()
        assert wait_for_end(first.pid)
        assert watch.starts == 1
        watch.supervisor.start()
        second = await watch.ready.get()
        watch.supervisor.start()  # it runs: nothing to do
        watch.supervisor.restart()
        third = await watch.ready.get()
    assert len({first.pid, second.pid, third.pid}) == 3
    assert watch.failures.empty()


async def test_a_start_does_not_wait_for_the_end_of_a_crash_loop(tmp_path: Path) -> None:
    config = stand_in(tmp_path, "raise SystemExit(1)", crash_limit=1, crash_pause_s=600)
    async with watched(config, tmp_path) as watch:
        assert (await watch.failures.get())[1].crash_loop
        stand_in(tmp_path, greeter())
        watch.supervisor.start()
        await watch.ready.get()


async def test_a_stop_while_it_starts_stops_it(tmp_path: Path) -> None:
    async with watched(stand_in(tmp_path, "import time; time.sleep(600)"), tmp_path) as watch:
        while not watch.starts:  # noqa: ASYNC110 - its task reports it in its first step
            await asyncio.sleep(0)
        watch.supervisor.stop()
        await watch.stops.get()
    assert watch.failures.empty()


async def test_a_taken_port_is_recognized(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as squatter:
        squatter.bind(("127.0.0.1", 0))
        squatter.listen()
        port = squatter.getsockname()[1]
        monkeypatch.setattr("bridge.comfyui.supervisor._free_port", lambda: port)
        failure, _ = await first_failure(stand_in(tmp_path, greeter()), tmp_path)
    assert failure.failure == "port_taken"


async def test_a_missing_folder_or_interpreter_is_recognized(tmp_path: Path) -> None:
    config = stand_in(tmp_path, greeter(), path=tmp_path / "nowhere")
    failure, restart = await first_failure(config, tmp_path)
    assert (failure.failure, restart.crash_loop) == ("no_comfyui", True)
    config = stand_in(tmp_path, greeter(), python=Path("/nowhere/python"))
    failure, restart = await first_failure(config, tmp_path)
    assert (failure.failure, restart.crash_loop) == ("no_interpreter", True)


async def test_a_folder_that_cannot_be_written_is_recognized(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("not a folder", encoding="ascii")
    failure, _ = await first_failure(stand_in(tmp_path, greeter()), tmp_path)
    assert failure.failure == "no_folder"


@pytest.mark.slow
async def test_many_early_deaths_are_a_crash_loop_that_ends_after_a_pause(tmp_path: Path) -> None:
    config = stand_in(tmp_path, "raise SystemExit(1)", crash_limit=2, crash_pause_s=0.01)
    async with watched(config, tmp_path) as watch:
        loops = [(await watch.failures.get())[1].crash_loop for _ in range(4)]
    assert loops == [False, True, False, True]


async def test_a_start_that_hangs_is_given_up(tmp_path: Path) -> None:
    config = stand_in(tmp_path, "import time; time.sleep(600)", start_timeout_s=0.5)
    failure, _ = await first_failure(config, tmp_path)
    assert failure.failure == "start_timeout"


async def test_elsewhere_than_on_linux_it_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "_ON_LINUX", False)
    failure, restart = await first_failure(stand_in(tmp_path, greeter()), tmp_path)
    assert (failure.failure, restart.crash_loop) == ("not_linux", True)


async def test_the_bridges_own_secrets_stay_out_of_its_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COMFY2MQTT_MQTT_URL", "mqtt://user:password@host")
    monkeypatch.setenv("COMFY2MQTT_MEDIA_BYTES", "1000")
    code = "import os; print(sorted(k for k in os.environ if k.startswith('COMFY2MQTT')))"
    failure, _ = await first_failure(stand_in(tmp_path, code), tmp_path)
    ours = ["COMFY2MQTT_GUARD", "COMFY2MQTT_MEDIA_BYTES", "COMFY2MQTT_SECRET"]
    assert failure.log == (str(ours),)


async def test_relative_paths_mean_the_bridges_folder_not_comfyuis(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "python").symlink_to(sys.executable)
    elsewhere = tmp_path / "on the PATH" / "python"
    elsewhere.parent.mkdir()
    elsewhere.write_text("#!/bin/sh\nexit 7\n")
    elsewhere.chmod(0o755)
    monkeypatch.setenv("PATH", str(elsewhere.parent), prepend=os.pathsep)
    stand_in(tmp_path, "import sys; print(sys.argv); open(sys.argv[-1])")
    config = SuperviseConfig(path=Path("ComfyUI"), python=Path("./python"))
    failure, _ = await first_failure(config, Path())
    assert failure.failure == "exited"
    assert "code 0" in str(failure)


async def test_its_own_arguments_win_over_the_users(tmp_path: Path) -> None:
    args = ("--port", "8188", "--listen", "0.0.0.0", "--preview-method", "taesd")  # noqa: S104
    config = stand_in(tmp_path, "import sys; print(sys.argv)", args=args)
    failure, _ = await first_failure(config, tmp_path)
    given = msgspec.json.decode(failure.log[0].replace("'", '"'), type=list[str])
    assert given[given.index("--preview-method") + 1] == "taesd"
    assert given.count("--preview-method") == 1
    assert given[len(given) - given[::-1].index("--listen")] == "127.0.0.1"
    assert given[len(given) - given[::-1].index("--port")] != "8188"


def test_no_comfyui_outlives_a_killed_bridge(tmp_path: Path) -> None:
    told = tmp_path / "pids"
    os.mkfifo(told)
    stray = f"""
import os
if os.fork() == 0: os.setsid()
with open({str(told)!r}, "w") as pids: print(os.getpid(), file=pids)
"""
    config = stand_in(tmp_path, stray + greeter())
    bridge = f"""
import asyncio
from pathlib import Path
from bridge.comfyui.instance import Instance
from bridge.comfyui.settings import SuperviseConfig

async def main():
    config = SuperviseConfig(path=Path({str(config.path)!r}), python=Path({sys.executable!r}))
    await Instance("main", config, folder=Path({str(tmp_path)!r})).run()

asyncio.run(main())
"""
    with subprocess.Popen((sys.executable, "-c", bridge)) as killed:
        try:
            # Both may write before it is opened a second time.
            pids: list[int] = []
            while len(pids) < 2:
                pids += map(int, told.read_text(encoding="ascii").split())
        finally:
            killed.kill()
        assert all(wait_for_end(pid) for pid in pids)
