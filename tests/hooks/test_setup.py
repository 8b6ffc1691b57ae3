"""Hooks in the settings: what is taken, and what is refused in one line."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import pytest

from bridge.adapters.mqtt.publisher import Publisher
from bridge.config import Config, ConfigError, check, load
from bridge.hooks.calls import MqttCalls
from bridge.hooks.presets import calls_of, gpus_of, rules_of
from bridge.service.checks import check_tables

HEAD = '[[hook]]\nname = "h"\n'


def read(tmp_path: Path, text: str) -> Config:
    file = tmp_path / "comfy2mqtt.toml"
    file.write_text(text)
    return load(environment={}, file=file)


def start(tmp_path: Path, text: str) -> None:
    """Look at settings as the start of a bridge does."""
    config = read(tmp_path, text)
    try:
        check(config)
        check_tables(config)
    except ConfigError as error:
        raise ConfigError(config.sources.explain(error)) from None


def refused(tmp_path: Path, text: str) -> str:
    """Return why settings are refused, as the start says it."""
    with pytest.raises(ConfigError) as raised:
        start(tmp_path, text)
    return str(raised.value)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "hook.h: expected a preset, before_busy or after_idle"),
        ('preset = "ollama"', "hook.h.url: the preset 'ollama' needs http://host:port"),
        (
            'preset = "ollama"\nurl = "ollama:1"',
            "hook.h.url: 'ollama:1': expected http://host:port",
        ),
        ('preset = "other"\nurl = "http://a"', "hook.h."),
        ('url = "http://a"', "hook.h.url: only with a preset"),
        (
            'preset = "vllm"\nurl = "http://a"\nmac = "00:11:22:33:44:55"',
            "hook.h.mac: needed by the preset 'wake-on-lan', and by no other",
        ),
        (
            'preset = "wake-on-lan"\nurl = "http://a"',
            "hook.h.mac: needed by the preset 'wake-on-lan', and by no other",
        ),
        ('preset = "wake-on-lan"\nurl = "http://a"\nmac = "nonsense"', "hook.h."),
        (
            'preset = "ollama"\nurl = "http://a"\nbefore_busy = {command = ["true"]}',
            "hook.h.before_busy: the preset says what is done then",
        ),
        ("before_busy = {}", "hook.h.before_busy: expected one of url, topic and command"),
        (
            'after_idle = {url = "http://a", topic = "a"}',
            "hook.h.after_idle: expected one of url, topic and command",
        ),
        (
            'before_busy = {url = "file:///etc"}',
            "hook.h.before_busy.url: 'file:///etc': expected http",
        ),
        (
            'before_busy = {url = "http://a", answer = "b"}',
            "hook.h.before_busy.answer: only with topic",
        ),
        (
            'before_busy = {topic = "a", expect = "b"}',
            "hook.h.before_busy.expect: needs answer",
        ),
        ('before_busy = {topic = "a/#"}', "hook.h.before_busy.topic: 'a/#': expected a topic"),
        ('before_busy = {topic = "$SYS/a"}', "hook.h.before_busy.topic: '$SYS/a': expected"),
        (
            'before_busy = {topic = "comfy2mqtt/bridge/request/queue/clear"}',
            "hook.h.before_busy.topic: 'comfy2mqtt/bridge/request/queue/clear': it is the",
        ),
        (
            'before_busy = {topic = "a", answer = "comfy2mqtt/x"}',
            "hook.h.before_busy.answer: 'comfy2mqtt/x': it is the bridge's own",
        ),
        ('before_busy = {command = ["true"]}\non_error = "panic"', "hook.h."),
        ('before_busy = {command = ["true"]}\ntimeout_s = 0', "hook.h."),
        (
            'before_busy = {command = ["true"]}\ncomfyui = ["other"]',
            "hook.h.comfyui: there is no 'other'; expected some of default",
        ),
        (f'before_busy = {{command = ["true"]}}\n{HEAD}', "hook.h: there are two of that name"),
    ],
)
def test_a_hook_that_could_never_work_stops_the_start(tmp_path: Path, text: str, why: str) -> None:
    told = refused(tmp_path, f"{HEAD}{text}\n")
    assert (
        told.partition(f"{tmp_path / 'comfy2mqtt.toml'}, line ")[2]
        .partition(": ")[2]
        .startswith(why)
    )
    assert "\n" not in told


@pytest.mark.parametrize(
    "url", ["http://10.0.0.5/cm?cmnd=Power On", " http://lamp/", "http://u:a b@lamp:80/a b"]
)
def test_a_url_may_have_what_is_sent_encoded(tmp_path: Path, url: str) -> None:
    start(tmp_path, f'{HEAD}before_busy = {{url = "{url}"}}\n')


@pytest.mark.parametrize("url", ["http://my lamp/", "http://lamp\\u0001/", "http://a..b/"])
def test_a_host_is_one_that_can_be_looked_up(tmp_path: Path, url: str) -> None:
    told = refused(tmp_path, f'{HEAD}before_busy = {{url = "{url}"}}\n')
    assert "hook.h.before_busy.url: " in told


@pytest.mark.parametrize("header", ["Host", "Connection", "X-Title"])
def test_a_hooks_headers_are_the_operators(tmp_path: Path, header: str) -> None:
    long = f"Zuhörer {'x' * 5000}"
    start(
        tmp_path, f'{HEAD}before_busy = {{url = "http://a", headers = {{{header} = "{long}"}}}}\n'
    )


WAKING = f'{HEAD}preset = "wake-on-lan"\nurl = "http://a"\nmac = "00:11:22:33:44:55"\n'


@pytest.mark.parametrize("host", ["192.168.1.255", "home.example.org", "<broadcast>"])
def test_a_machine_is_woken_at_an_address_or_a_name(tmp_path: Path, host: str) -> None:
    start(tmp_path, f'{WAKING}broadcast = "{host}"\n')


@pytest.mark.parametrize("host", ["", "192.168.1", "192.168.1.256", "ff02::1", "a b", "a..b"])
def test_a_machine_is_woken_at_no_other_place(tmp_path: Path, host: str) -> None:
    told = refused(tmp_path, f'{WAKING}broadcast = "{host}"\n')
    assert f"hook.h.broadcast: {host!r}: expected an IPv4 address" in told


def test_what_a_hook_is_called_with_is_not_shown(tmp_path: Path) -> None:
    told = refused(
        tmp_path, f'{HEAD}before_busy = {{url = "http://u:pass@a", headers = {{A = 7}}}}\n'
    )
    assert "pass" not in told
    config = read(
        tmp_path,
        f'{HEAD}before_busy = {{url = "http://u:s3cret@a", headers = {{A = "Bearer t0ken"}}}}\n',
    )
    assert {"s3cret", "Bearer t0ken"} <= set(config.secrets)


def test_a_comfyui_that_is_kept_loaded_shares_no_gpu(tmp_path: Path) -> None:
    why = "line 1: comfyui_warm: not with a gpu or a hook"
    assert why in refused(tmp_path, 'comfyui_warm = "a"\ncomfyui_gpu = "card"\n')
    hook = f'{HEAD}before_busy = {{command = ["true"]}}\n'
    assert why in refused(tmp_path, f'comfyui_warm = "a"\n{hook}')


def test_hooks_are_for_all_or_for_those_that_they_name(tmp_path: Path) -> None:
    comfyuis = "".join(
        f'[[comfyui]]\nname = "{name}"\nurl = "http://127.0.0.1:1"\n{gpu}'
        for name, gpu in (("one", 'gpu = "card"\n'), ("two", 'gpu = "card"\n'), ("far", ""))
    )
    hooks = '[[hook]]\nname = "a"\npreset = "ollama"\nurl = "http://a"\non_error = "wait"\n'
    hooks += '[[hook]]\nname = "b"\nafter_idle = {command = ["true"]}\ncomfyui = ["far"]\n'
    config = read(tmp_path, comfyuis + hooks)
    a, b = rules_of(config)
    assert (a.name, a.instances, a.waits) == ("a", frozenset({"one", "two", "far"}), True)
    assert (b.instances, b.waits) == (frozenset({"far"}), False)
    assert gpus_of(config) == {"card": ["one", "two"]}


def test_in_a_group_names_are_those_on_the_wire(tmp_path: Path) -> None:
    head = 'journal = "postgresql://u@h/d"\nmember = "m1"\ncomfyui_gpu = "card"\n'
    config = read(tmp_path, f'{head}{HEAD}after_idle = {{command = ["true"]}}\n')
    assert gpus_of(config) == {"m1-card": ["m1-default"]}
    assert rules_of(config)[0].instances == {"m1-default"}


def test_each_preset_has_its_time(tmp_path: Path) -> None:
    text = ""
    mac = '\nmac = "00:11:22:33:44:55"'
    mqtt = MqttCalls(cast("Publisher", None))
    for preset, more, seconds in (("ollama", "", 30.0), ("wake-on-lan", mac, 180.0)):
        text = f'{HEAD}preset = "{preset}"\nurl = "http://127.0.0.1:1/"{more}\n'
        (hook,) = read(tmp_path, text).hook
        assert calls_of(hook, mqtt, "comfy2mqtt").timeout_s == seconds
    sleeps = f'{text}after_idle = {{command = ["true"]}}\ntimeout_s = 5\n'
    (hook,) = read(tmp_path, sleeps).hook
    found = calls_of(hook, mqtt, "comfy2mqtt")
    assert (found.timeout_s, found.at_stop) == (5.0, False)
