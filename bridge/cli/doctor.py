"""`comfy2mqtt doctor`: checks everything that a bridge needs, and says what to do.

Each check yields findings; a finding that is bad carries what would help.
"""

from __future__ import annotations

import asyncio
import os
import platform
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aiohttp
import msgspec
from msgspec import UNSET

from bridge import __version__, config
from bridge.adapters.mqtt.acl_probe import isolation
from bridge.adapters.mqtt.broker_address import CERTIFICATE, bridge_address, probe_address
from bridge.aio import succeeded
from bridge.cli import diagnostics
from bridge.cli.broker_trial import try_broker
from bridge.cli.diagnostics import Finding
from bridge.cli.shared import FAILED, show_finding
from bridge.comfyui import install, managed
from bridge.comfyui.building import InstallFailed
from bridge.comfyui.client import ComfyClient
from bridge.comfyui.errors import ComfyUIError
from bridge.config import ComfyUI, Config, ConfigError
from bridge.contract import missing
from bridge.contract.messages import encode
from bridge.contract.operator import HealthReport
from bridge.contract.retained import BridgeHealth, BridgeInfo, ComfyUIState, GpuLease
from bridge.contract.topics import Topics, matches
from bridge.jobs.database import DatabaseError, probe
from bridge.mqtt import BadCertificate, Connection, ConnectionRefused, MqttError, Subscription
from bridge.resources import where_workflows_are
from bridge.service import checks
from bridge.service.instances import ON_LINUX, interpreter
from bridge.service.public_urls import own_address
from bridge.service.stores import bucket_of, library_of
from bridge.workflows.objectinfo import ObjectInfoError

_NO_BROKER = (
    "is it running, and is that its address (mqtt_url)? Debian, Ubuntu: apt install mosquitto"
)
# A retained message comes at once or not at all.
_RETAINED_S = 1.0
_ANSWER_S = 5.0
_LOW_DISK = 1024**3
# Of what answers at the port of the page or of the metrics.
_READ_BYTES = 64 * 1024


class _HealthAnswer(msgspec.Struct):
    """The answer to an operator's `health_check`."""

    data: HealthReport


async def examine(settings: Config, *, as_json: bool) -> int:
    """Print all findings; the exit status is 1 if one of them is bad."""
    healthy = True
    checks = (
        _settings(settings),
        _broker(settings),
        _data(settings),
        _ports(settings),
        _journal(settings),
        _bucket(settings),
        _comfyui(settings),
        _workflows(settings),
    )
    for check in checks:
        async for finding in check:
            healthy = healthy and finding.good
            show_finding(finding, as_json=as_json)
    return 0 if healthy else FAILED


async def _settings(settings: Config) -> AsyncIterator[Finding]:
    problems = []
    for check in (*config.CHECKS, checks.check_tables, checks.check_connections):
        try:
            await asyncio.to_thread(check, settings)
        except ConfigError as error:
            problems.append(settings.sources.explain(error))
    for problem in dict.fromkeys(problems):
        yield Finding(good=False, what=problem, advice="correct this setting")
    if not problems:
        yield Finding(good=True, what="the settings are valid")
    for variable in config.unknown(os.environ):
        meant = config.meant(variable).removeprefix("; ")
        advice = meant or "docs/settings.md lists the settings"
        yield Finding(good=False, what=f"{variable} is no setting", advice=advice)


async def _broker(settings: Config) -> AsyncIterator[Finding]:
    try:
        address = bridge_address(settings)
        # An id of our own: the bridge's would throw the bridge out.
        async with Connection(address) as connection:
            yield Finding(good=True, what=f"the broker at {address} accepts our connection")
            async for finding in explain_bridge(connection, Topics(settings.base_topic)):
                yield finding
        async for finding in try_broker(settings, address):
            yield finding
        yield await _isolation(settings)
    except ConnectionRefused as error:
        yield Finding(good=False, what=str(error), advice="check user and password in mqtt_url")
    except ConfigError:
        pass  # reported above
    except MqttError as error:
        advice = CERTIFICATE if isinstance(error, BadCertificate) else _NO_BROKER
        yield Finding(good=False, what=f"broker: {error}", advice=advice)


async def _isolation(settings: Config) -> Finding:
    """Try whether a client's password, or no password, reaches another client's topics."""
    probe = probe_address(settings)
    topics = Topics(settings.base_topic)
    match await isolation(bridge_address(settings), probe, topics):
        case "enforced":
            return Finding(good=True, what="the broker keeps each client to its own topics")
        case "none":
            return Finding(
                # Without a client's password nobody said that it should be otherwise.
                good=probe is None,
                what="the broker lets any client read and write any other's topics",
                advice="`comfy2mqtt mosquitto setup` writes a configuration that isolates clients",
            )
        case "unknown":
            return Finding(
                good=True,
                what="it is unknown whether the broker isolates clients from each other",
                advice="set isolation_probe_url, with a client's name and password, to test it",
            )


async def explain_bridge(connection: Connection, topics: Topics) -> AsyncIterator[Finding]:
    """Yield what a bridge on this broker says of itself. Raises MqttError."""
    wanted = [topics.state, topics.info, topics.health, topics.comfyui("+"), topics.gpu("+")]
    found = await _retained(connection, wanted, topics.member_health("+"))
    state = found.pop(topics.state, b"").decode(errors="replace")
    info, health = found.pop(topics.info, None), found.pop(topics.health, None)
    if not connection.retains:
        found = await _asked(connection, topics)
        state = "online" if found else "it retains nothing, and none answers `health_check`"
    if state != "online":
        yield Finding(
            good=True, what=f"no bridge is online at this broker ({state or 'there was never one'})"
        )
        return
    if info is not None:
        about = msgspec.json.decode(info, type=BridgeInfo)
        other = "" if about.version == __version__ else f"; this is {__version__}"
        yield Finding(good=True, what=f"the bridge {about.name} {about.version} is online{other}")
    for finding in _explain_health(found, health, topics):
        yield finding
    lent = False
    for topic in [each for each in found if matches(topics.gpu("+"), each)]:
        lease = msgspec.json.decode(found.pop(topic), type=GpuLease)
        lent = lent or lease.holder not in (UNSET, "bridge")
        yield diagnostics.explain_gpu(lease)
    if not found:
        found = await _asked(connection, topics)
    for topic, payload in found.items():
        comfyui = msgspec.json.decode(payload, type=ComfyUIState)
        name = topic.rpartition("/")[2]
        yield diagnostics.explain(name, comfyui, lent=lent)
        if comfyui.release is not UNSET:
            yield diagnostics.explain_release(name, comfyui.release)


def _explain_health(
    found: dict[str, bytes], health: bytes | None, topics: Topics
) -> Iterator[Finding]:
    """Take the health of each bridge of a group from what was found; of one alone its own."""
    members = [each for each in sorted(found) if matches(topics.member_health("+"), each)]
    healths = {f"{each.rpartition('/')[2]}: its": found.pop(each) for each in members}
    if health is not None and not healths:
        healths = {"its": health}
    for its, payload in healths.items():
        yield from diagnostics.explain_health(msgspec.json.decode(payload, type=BridgeHealth), its)


async def _asked(connection: Connection, topics: Topics) -> dict[str, bytes]:
    """Ask the bridge for its ComfyUIs' states, where the broker sends nothing retained of them."""
    answer_topic = topics.command_response("health_check")
    await connection.subscribe([Subscription(filter=answer_topic)])
    connection.publish(topics.command("health_check"), b"").add_done_callback(succeeded)
    try:
        async with asyncio.timeout(_ANSWER_S):
            async for message in connection.messages:
                if message.topic == answer_topic:
                    answer = msgspec.json.decode(message.payload, type=_HealthAnswer)
                    return {name: encode(each) for name, each in answer.data.comfyui.items()}
    except (TimeoutError, msgspec.MsgspecError):
        pass  # operators' commands are switched off, or it is another program's
    return {}


async def _retained(connection: Connection, filters: list[str], operators: str) -> dict[str, bytes]:
    """Return what is retained on topics; those of `operators` not every user may read."""
    found: dict[str, bytes] = {}
    wanted = [Subscription(filter=each) for each in filters]
    await connection.subscribe([*wanted, Subscription(filter=operators, optional=True)])
    try:
        async with asyncio.timeout(_RETAINED_S):
            async for message in connection.messages:
                found[message.topic] = message.payload
    except TimeoutError:
        pass
    return {topic: payload for topic, payload in found.items() if payload}


async def _journal(settings: Config) -> AsyncIterator[Finding]:
    if not settings.journal:
        return
    try:
        name = await asyncio.to_thread(probe, settings.journal)
    except DatabaseError as error:
        yield Finding(
            good=False,
            what=f"the journal: {error}",
            advice="does PostgreSQL run there, with this database and user? (setting: journal)",
        )
    else:
        yield Finding(good=True, what=f"the journal can be reached at {name}")


async def _bucket(settings: Config) -> AsyncIterator[Finding]:
    if not settings.blobs:
        return
    try:
        await asyncio.to_thread(lambda: bucket_of(settings).probe())
    except (DatabaseError, OSError) as error:
        yield Finding(
            good=False,
            what=f"large outputs: {error}",
            advice="settings: blobs, s3_endpoint, s3_region, s3_access_key, s3_secret_key_file;"
            " docs/several-bridges.md lists the rights that are needed",
        )
    else:
        yield Finding(good=True, what=f"{settings.blobs} can be written, read and deleted from")


async def _data(settings: Config) -> AsyncIterator[Finding]:
    try:
        # Nothing is made here: it may be a bridge elsewhere, with other settings, that is meant.
        there = await asyncio.to_thread(checks.check_data, settings)
        folder = settings.folder
    except ConfigError as error:
        what = settings.sources.explain(error)
        advice = "set data (COMFY2MQTT_DATA) to a folder of the bridge's own"
        yield Finding(good=False, what=what, advice=advice)
        return
    free = shutil.disk_usage(there).free
    can = "can be written" if there == folder else "is not there yet, and can be made"
    yield Finding(
        good=free > _LOW_DISK,
        what=f"{folder} (data, by the settings here) {can}; {free // 1024**2} MB are free",
        advice="" if free > _LOW_DISK else "free some space: results and outputs are stored there",
    )


async def _ports(settings: Config) -> AsyncIterator[Finding]:
    for setting in checks.LISTENS:
        listen = getattr(settings, setting)
        if listen is None:
            continue
        try:
            await asyncio.to_thread(checks.check_port, settings, setting)
        except ConfigError as error:
            if await _is_a_bridge(listen):
                yield Finding(good=True, what=f"a bridge serves {listen} ({setting})")
                continue
            what = settings.sources.explain(error)
            yield Finding(good=False, what=what, advice="correct this setting")
        else:
            yield Finding(good=True, what=f"{listen} is free ({setting})")


async def _is_a_bridge(listen: str) -> bool:
    """Return whether what listens at an address is a bridge: its page, or its metrics."""
    address = own_address(listen)
    urls = [
        f"{scheme}://{address}{path}" for path in ("/", "/metrics") for scheme in ("http", "https")
    ]
    timeout = aiohttp.ClientTimeout(total=_ANSWER_S)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        for url in urls:
            try:
                async with session.get(url, ssl=False) as answer:
                    if b"comfy2mqtt" in await answer.content.read(_READ_BYTES):
                        return True
            except (aiohttp.ClientError, OSError, TimeoutError):
                continue
    return False


async def _comfyui(settings: Config) -> AsyncIterator[Finding]:
    for each in settings.comfyuis:
        if each.url is None:
            yield _supervised(each, settings.managed)
        elif config.is_http(each.url):  # else it is reported above
            async for finding in _attached(each, each.url):
                yield finding
    if settings.comfyui_updates:
        yield diagnostics.updates(possible=_can_update(settings))


async def _attached(comfyui: ComfyUI, url: str) -> AsyncIterator[Finding]:
    async with ComfyClient(url, secret=comfyui.secret) as client:
        shown = client.base_url.with_user(None)
        try:
            stats = await client.system_stats()
            hello = await client.hello()
            is_open = await client.answers_strangers()
        except ComfyUIError as error:
            advice = diagnostics.REMEDIES.get(error.code, "is that a ComfyUI?")
            what = f"ComfyUI {comfyui.name!r} at {shown}: {error}"
            yield Finding(good=False, what=what, advice=advice)
            return
    system = stats.get("system")
    version = system.get("comfyui_version") if isinstance(system, dict) else None
    yield Finding(good=True, what=f"ComfyUI {version or ''} answers at {shown}")
    if hello is None:
        yield Finding(
            good=False,
            what="our nodes are not installed there",
            advice="copy custom_nodes/comfy2mqtt into its custom_nodes folder and restart it",
        )
    elif hello.worker is False:
        what = "it accepts prompts and runs none: its worker thread has ended"
        yield Finding(good=False, what=what, advice="restart it")
    else:
        yield Finding(good=True, what=f"our nodes are installed, version {hello.version}")
        yield diagnostics.openness(str(shown), is_open=is_open)


def _supervised(comfyui: ComfyUI, root: Path) -> Finding:
    """Check a ComfyUI that the bridge starts (`root`: what `comfyui install` made)."""
    if not ON_LINUX:
        return Finding(good=False, what="no ComfyUI can be started here", advice=install.ELSEWHERE)
    if comfyui.path is not None:
        python = interpreter(comfyui.path, comfyui.python)
        if shutil.which(str(python.absolute())) is None:
            what = f"{python} cannot be executed"
            return Finding(good=False, what=what, advice=diagnostics.REMEDIES["no_interpreter"])
        return Finding(good=True, what=f"the bridge starts the ComfyUI in {comfyui.path}")
    try:
        chosen = managed.current(root)
    except InstallFailed as error:
        return Finding(good=False, what=str(error))
    found = install.find() if chosen is None else chosen.used
    if found is None:
        size = install.torch_of(platform.machine()).installed_gb
        return Finding(
            good=True,
            what=f"ComfyUI {comfyui.name!r} is not installed yet: the first `comfy2mqtt serve` "
            f"installs it (about {size} GB, 2 to 10 minutes)",
            advice="to install it now: comfy2mqtt comfyui install; to use your own: comfyui_path",
        )
    return Finding(good=True, what=f"the managed ComfyUI {found.version} is installed")


def _can_update(settings: Config) -> bool:
    """True if one of the ComfyUIs is of `comfyui install`: others stay as they are."""
    try:
        there = managed.current(settings.managed) is not None
    except InstallFailed:
        return False
    return there and any(each.url is None and each.path is None for each in settings.comfyuis)


async def _workflows(settings: Config) -> AsyncIterator[Finding]:
    if not settings.workflows.is_dir():
        return  # reported above
    yield Finding(good=True, what=f"workflows: {where_workflows_are(settings.workflows)}")
    library = library_of(settings)
    try:
        await library.open()
    except ObjectInfoError as error:
        yield Finding(good=False, what=str(error))
    for broken in library.broken:
        what = f"workflow {broken.message}"
        yield Finding(good=False, what=what, advice="correct or remove the file")
    for file in library.waiting:
        yield Finding(
            good=True, what=f"workflow {file} (waits for the first connection to a ComfyUI)"
        )
    for name, workflow in library.workflows.items():
        if workflow.forbidden:
            yield Finding(
                good=True, what=f"workflow {name} is not allowed: {', '.join(workflow.forbidden)}"
            )
            continue
        lacking = workflow.missing
        if lacking is None or workflow.runnable:
            known = "" if lacking is not None else " (not yet checked against a ComfyUI)"
            yield Finding(good=True, what=f"workflow {name}{known}")
        else:
            yield Finding(
                good=name in missing.OPTIONAL and bool(missing.models(lacking)),
                what=f"workflow {name} cannot run: {missing.why_not_runnable(name, lacking)}",
                advice=missing.advice(lacking, name),
            )
