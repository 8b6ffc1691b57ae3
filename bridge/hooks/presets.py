"""Hooks by the settings: whose each is and what it does, with presets for known programs.

The programs are Ollama, llama.cpp, vLLM, and a machine that sleeps. A hook becomes two functions,
`before` and `after`, either of which may be missing.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, TypeAlias

import msgspec
from msgspec import Struct

from bridge.config import Call, Config, ConfigError, Hook, can_be_host, check_http
from bridge.contract.reading import UNREADABLE
from bridge.contract.topics import is_filter
from bridge.hooks import calls
from bridge.hooks.calls import CallFailed, MqttCalls
from bridge.hooks.machine import Rules
from bridge.text import in_quotes

Do: TypeAlias = Callable[[], Awaitable[object]]

# How long a call may take unless the hook says so, in seconds. A machine has to start.
_TIMEOUT_S = 30.0
_WAKE_TIMEOUT_S = 180.0
_POLL_S = 0.25
# Headers that can be sent. The operator may set those, too, that no client may.
_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_NO_LINE = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


class HookCalls(Struct, frozen=True):
    """The functions of one hook. `at_stop`: also when the bridge stops, as it runs no program."""

    before: Do | None
    after: Do | None
    timeout_s: float
    at_stop: bool


def rules_of(config: Config) -> list[Rules]:
    """Return each hook's rules, in the order of the settings. Raises ConfigError."""
    known = [each.name for each in config.comfyuis]
    found = []
    for hook in config.hook:
        for name in hook.comfyui:
            if name not in known:
                raise ConfigError(
                    f"there is no {name!r}; expected some of {', '.join(known)}",
                    *("hook", hook.name, "comfyui"),
                )
        names = frozenset(config.on_the_wire(name) for name in hook.comfyui or known)
        found.append(Rules(hook.name, names, hook.idle_s, waits=hook.on_error == "wait"))
    return found


def gpus_of(config: Config) -> dict[str, list[str]]:
    """Return the ComfyUIs on each GPU that has a name, both by their names on the wire."""
    found: dict[str, list[str]] = {}
    for each in config.comfyuis:
        if each.gpu is not None:
            found.setdefault(config.on_the_wire(each.gpu), []).append(config.instance_name(each))
    return found


def check_warm(config: Config) -> None:
    """Check that nothing is kept loaded on a GPU that is shared. Raises ConfigError."""
    hooked = set[str]().union(*(each.instances for each in rules_of(config)))
    for each in config.comfyuis:
        shared = each.gpu is not None or config.instance_name(each) in hooked
        if each.warm is not None and shared:
            place = ("comfyui", each.name, "warm") if config.comfyui else ("comfyui_warm",)
            raise ConfigError(
                "not with a gpu or a hook: its GPU is given back when nothing waits", *place
            )


def calls_of(hook: Hook, mqtt: MqttCalls, base: str) -> HookCalls:
    """Return what a hook does; `base` is the bridge's own first level. Raises ConfigError."""
    check_hook(hook, base)
    before, after = _of_preset(hook)
    if hook.before_busy is not None:
        before = _of_call(hook.before_busy, mqtt)
    if hook.after_idle is not None:
        after = _of_call(hook.after_idle, mqtt)
    default = _WAKE_TIMEOUT_S if hook.preset == "wake-on-lan" else _TIMEOUT_S
    at_stop = hook.after_idle is None or not hook.after_idle.command
    return HookCalls(before, after, hook.timeout_s or default, at_stop)


def _of_preset(hook: Hook) -> tuple[Do | None, Do | None]:
    url = (hook.url or "").rstrip("/")
    match hook.preset:
        case None:
            return None, None
        case "ollama":
            return partial(unload_ollama, url), None
        case "llama.cpp":
            return partial(unload_llama_cpp, url), None
        case "vllm":
            return partial(put_vllm_to_sleep, url), partial(wake_vllm, url)
        case "wake-on-lan":
            return partial(calls.wake, hook.mac or "", hook.broadcast, url), None


def _of_call(call: Call, mqtt: MqttCalls) -> Do:
    if call.url is not None:
        return partial(calls.ask, call.method, call.url, json=call.json, headers=call.headers)
    if call.topic is not None:
        return partial(mqtt.call, call)
    return partial(calls.run, call.command)


# -- checks ----------------------------------------------------------------------------------------


def check_hook(hook: Hook, base: str) -> None:
    """Check a hook; `base` is the bridge's own first level. Raises ConfigError."""
    place = ("hook", hook.name)
    _check_preset(hook, place)
    for name, call in (("before_busy", hook.before_busy), ("after_idle", hook.after_idle)):
        if call is not None:
            _check_call(call, (*place, name), base)
    if (hook.preset, hook.before_busy, hook.after_idle) == (None, None, None):
        raise ConfigError("expected a preset, before_busy or after_idle", *place)


def _check_preset(hook: Hook, place: tuple[str, ...]) -> None:
    if hook.preset is None:
        for name in ("url", "mac"):
            if getattr(hook, name) is not None:
                raise ConfigError("only with a preset", *place, name)
        return
    if hook.before_busy is not None:
        raise ConfigError("the preset says what is done then", *place, "before_busy")
    if hook.url is None:
        problem = f"the preset {hook.preset!r} needs http://host:port"
        raise ConfigError(problem, *place, "url")
    if (hook.mac is not None) is not (hook.preset == "wake-on-lan"):
        problem = "needed by the preset 'wake-on-lan', and by no other"
        raise ConfigError(problem, *place, "mac")
    check_http(hook.url, *place, "url")
    if hook.preset == "wake-on-lan" and not _can_be_sent_to(hook.broadcast):
        problem = f"{in_quotes(hook.broadcast)}: expected an IPv4 address, such as 192.168.1.255"
        raise ConfigError(problem, *place, "broadcast")


def _can_be_sent_to(host: str) -> bool:
    """Return whether a packet of IPv4 could go to an address, or to the host of a name."""
    try:
        ipaddress.IPv4Address(host)
    except ValueError:
        return re.fullmatch(r"[0-9.]*|.*[\s:].*", host) is None and can_be_host(host)
    return True


def _check_call(call: Call, place: tuple[str, ...], base: str) -> None:
    given = [call.url is not None, call.topic is not None, bool(call.command)]
    if given.count(True) != 1:
        raise ConfigError("expected one of url, topic and command", *place)
    for name in ("answer", "expect"):
        if call.topic is None and getattr(call, name) is not None:
            raise ConfigError("only with topic", *place, name)
    if call.answer is None and call.expect is not None:
        raise ConfigError("needs answer, the topic of the answer", *place, "expect")
    for name, topic in (("topic", call.topic), ("answer", call.answer)):
        if topic is not None:
            _check_topic(topic, (*place, name), base)
    if call.url is not None:
        check_http(call.url, *place, "url")
    _check_headers(call, (*place, "headers"))


def _check_headers(call: Call, place: tuple[str, ...]) -> None:
    for name, value in call.headers.items():
        if _HEADER.fullmatch(name) is None:
            raise ConfigError(f"{in_quotes(name)} cannot be set", *place)
        if _NO_LINE.search(value) is not None:
            problem = f"{in_quotes(name)}: expected one line, without control characters"
            raise ConfigError(problem, *place)


def _check_topic(topic: str, place: tuple[str, ...], base: str) -> None:
    if not is_filter(topic) or set(topic) & set("+#") or topic.startswith("$"):
        raise ConfigError(f"{in_quotes(topic)}: expected a topic, without + and #", *place)
    if topic.partition("/")[0] == base:
        raise ConfigError(
            f"{in_quotes(topic)}: it is the bridge's own: begin with another level", *place
        )


# -- the programs ---------------------------------------------------------------------------------


class _LoadedModel(Struct):
    name: str = ""
    model: str = ""


class _Loaded(Struct):
    models: list[_LoadedModel] = []


class _ModelStatus(Struct):
    value: str = ""


class _LlamaModel(Struct):
    id: str
    status: _ModelStatus | None = None


class _LlamaModels(Struct):
    data: list[_LlamaModel] = []


async def unload_ollama(url: str) -> None:
    """Unload Ollama's models; returns when they are unloaded. Raises CallFailed."""

    async def unload(model: str) -> None:
        await calls.ask("POST", f"{url}/api/generate", json={"model": model, "keep_alive": 0})

    await _unload(partial(_loaded_by_ollama, url), unload)


async def unload_llama_cpp(url: str) -> None:
    """Unload the models of llama.cpp's router; returns when they are. Raises CallFailed."""

    async def unload(model: str) -> None:
        await calls.ask("POST", f"{url}/models/unload", json={"model": model})

    await _unload(partial(_loaded_by_llama_cpp, url), unload)


async def _unload(
    loaded: Callable[[], Awaitable[set[str]]], unload: Callable[[str], Awaitable[None]]
) -> None:
    """Unload what is loaded until nothing is; what is asked for twice might be loaded by that."""
    asked: set[str] = set()
    while found := await loaded():
        for model in sorted(found - asked):
            await unload(model)
        asked = found
        await asyncio.sleep(_POLL_S)


async def _loaded_by_ollama(url: str) -> set[str]:
    found = _read(await calls.ask("GET", f"{url}/api/ps"), _Loaded, "Ollama")
    return {each.model or each.name for each in found.models}


async def _loaded_by_llama_cpp(url: str) -> set[str]:
    found = _read(await calls.ask("GET", f"{url}/models"), _LlamaModels, "llama.cpp")
    if any(each.status is None for each in found.data):
        raise CallFailed(
            "this llama.cpp server has one model and cannot unload it: start llama-server without "
            "a model, as a router"
        )
    return {
        each.id
        for each in found.data
        if each.status is not None and each.status.value in ("loaded", "loading")
    }


async def put_vllm_to_sleep(url: str) -> None:
    """Put vLLM to sleep; returns when it has freed the GPU's memory. Raises CallFailed."""
    await calls.ask("POST", f"{url}/sleep?level=1")
    while not await _vllm_sleeps(url):  # noqa: ASYNC110 - it is vLLM that is asked
        await asyncio.sleep(_POLL_S)


async def wake_vllm(url: str) -> None:
    """Wake vLLM, which loads its model into the GPU's memory again. Raises CallFailed."""
    await calls.ask("POST", f"{url}/wake_up")


async def _vllm_sleeps(url: str) -> bool:
    answer = _read(await calls.ask("GET", f"{url}/is_sleeping"), dict[str, Any], "vLLM")
    return answer.get("is_sleeping") is True


def _read(body: bytes, kind: Any, who: str) -> Any:
    try:
        return msgspec.json.decode(body, type=kind)
    except UNREADABLE as error:
        raise CallFailed(f"this is not {who}'s answer: {error}") from None
