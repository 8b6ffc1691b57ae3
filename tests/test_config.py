from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bridge import config
from bridge.config import ClientRights, Config, ConfigError, about
from bridge.requests.permissions import Granted

DOCUMENT = Path("docs/settings.md")


def load(
    tmp_path: Path,
    text: str = "",
    environment: dict[str, str] | None = None,
    flags: dict[str, Any] | None = None,
) -> Config:
    file = tmp_path / "comfy2mqtt.toml"
    file.write_text(text)
    return config.load(flags, environment or {}, file)


def test_nothing_needs_to_be_set(tmp_path: Path) -> None:
    assert load(tmp_path) == Config()


def test_each_setting_has_a_meaning_for_the_help() -> None:
    said = [name for group in about.GROUPS.values() for name in group]
    assert sorted(said) == sorted(config.TYPES)


def test_without_a_folder_of_workflows_those_of_the_package_are_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert (load(tmp_path).workflows / "demo.json").is_file()
    (tmp_path / "workflows").mkdir()
    assert load(tmp_path).workflows == Path("workflows")


def test_flags_weigh_more_than_the_environment_and_that_more_than_the_file(tmp_path: Path) -> None:
    text = 'mqtt_url = "mqtt://file"\nname = "file"\nmax_queue = 5\n'
    environment = {"COMFY2MQTT_NAME": "environment", "COMFY2MQTT_MAX_QUEUE": "6"}
    found = load(tmp_path, text, environment, {"max_queue": "7", "name": None})
    assert (found.mqtt_url, found.name, found.max_queue) == ("mqtt://file", "environment", 7)


def test_strings_become_what_the_setting_is(tmp_path: Path) -> None:
    environment = {
        "COMFY2MQTT_COMFYUI_ARGS": "--cpu --extra 'two words'",
        "COMFY2MQTT_DENY_NODES": "Exec*, LoadImage",
        "COMFY2MQTT_ALLOW_NODES": "",
        "COMFY2MQTT_KEEP_OUTPUTS_S": "60",
        "COMFY2MQTT_DATA": "~/bridge",
    }
    found = load(tmp_path, "", environment)
    assert found.comfyui_args == ("--cpu", "--extra", "two words")
    assert found.deny_nodes == ("Exec*", "LoadImage")
    assert found.allow_nodes == ()
    assert found.keep_outputs_s == 60.0
    assert found.folder == Path("~/bridge").expanduser()


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_values_line_end_is_none_of_it(tmp_path: Path, end: str) -> None:
    """As a secret's file, a file of variables from Windows, or a block of YAML gives it."""
    given = {
        "mqtt_url": "mqtt://u:p@h:1884",
        "comfyui_secret": "s",
        "max_queue": "5",
        "log_level": "debug",
        "websocket_listen": ":8090",
        "trusted_proxies": "10.0.0.0/8,::1",
    }
    by_name = {config.variable(name): f"{value}{end}" for name, value in given.items()}
    found = load(
        tmp_path, "", by_name, {"data": f"/var/lib/a{end}", "comfyui_args": f"--a{end}--b"}
    )
    assert found == load(
        tmp_path,
        f'name = "comfy2mqtt{json.dumps(end)[1:-1]}"',
        {config.variable(name): value for name, value in given.items()},
        {"data": "/var/lib/a", "comfyui_args": "--a --b"},
    )


def test_a_time_or_a_rate_without_an_end_is_the_longest(tmp_path: Path) -> None:
    limits = "requests_per_s = inf\nprocessor_per_s = inf"
    times = "timeout_s = inf\nkeep_results_s = 1e10\nsilence_s = 5"
    hook = 'name = "a"\nidle_s = inf\ntimeout_s = inf\nbefore_busy = {command = ["a"]}'
    found = load(
        tmp_path,
        f"{times}\n[clients.a]\n{limits}\n[[hook]]\n{hook}\n",
        {"COMFY2MQTT_IDLE_UNLOAD_S": "inf"},
        {"max_publishes_per_s": "inf"},
    )
    ours, hook_ = found.clients["a"], found.hook[0]
    assert {
        *(found.timeout_s, found.idle_unload_s, found.max_publishes_per_s, found.keep_results_s),
        *(ours.requests_per_s, ours.processor_per_s, hook_.idle_s, hook_.timeout_s),
    } == {config.loading.ENDLESS}
    assert found.silence_s == 5
    for text in ("timeout_s = nan", "timeout_s = -inf", "max_queue = inf"):
        with pytest.raises(ConfigError, match="expected"):
            load(tmp_path, text)


def test_a_home_folder_is_meant_in_tables_too(tmp_path: Path) -> None:
    found = load(tmp_path, "[[comfyui]]\nname = 'a'\npath = '~/ComfyUI'\n", {})
    assert found.comfyui[0].path == Path("~/ComfyUI").expanduser()


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_file_of_settings_is_read_in_the_encodings_of_editors(
    tmp_path: Path, encoding: str
) -> None:
    file = tmp_path / "settings.toml"
    file.write_bytes("max_queue = 7\r\n".encode(encoding))
    assert config.load({}, {}, file).max_queue == 7


def test_the_home_folder_of_nobody_is_reported(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'~no one/x': could not determine home"):
        load(tmp_path, "", {"COMFY2MQTT_DATA": "~no one/x"})


@pytest.mark.parametrize(
    ("text", "environment", "flags", "told"),
    [
        ("mqtt_utl = 1", {}, {}, ("mqtt_utl", "no such setting", "mqtt_url")),
        ("max_queue = ", {}, {}, ("comfy2mqtt.toml", "not valid TOML")),
        ("clients = " + "[" * 5000, {}, {}, ("comfy2mqtt.toml", "not valid TOML")),
        ("", {"COMFY2MQTT_CLIENTS": "[" * 5000}, {}, ("COMFY2MQTT_CLIENTS", "expected JSON")),
        ("max_queue = 0", {}, {}, ("max_queue", "0", "at least 1")),
        ("max_queue = true", {}, {}, ("max_queue", "True", "whole number")),
        ("clients = [1]", {}, {}, ("line 1: clients: expected a table [clients.NAME]",)),
        (
            "",
            {"COMFY2MQTT_MAX_QUEUE": "many"},
            {},
            ("COMFY2MQTT_MAX_QUEUE", "'many'", "whole number"),
        ),
        ("", {"COMFY2MQTT_BASE_TOPIC": "a/b"}, {}, ("BASE_TOPIC", "'a/b'", "1 to 64")),
        ("", {"COMFY2MQTT_COMFYUI_ARGS": "'"}, {}, ("COMFYUI_ARGS", "No closing quotation")),
        ("", {}, {"log_level": "loud"}, ("--log-level", "'loud'", "debug, info, warning, error")),
        ("", {}, {"timeout_s": "-1"}, ("--timeout-s", "'-1'", "above 0", "seconds")),
        *(
            (f'{name}_listen = "127.0.0.1:{port}"', {}, {}, (f"{name}_listen", told))
            for name in ("metrics", "websocket")
            for port, told in (("99999", "up to 65535"), ("x", "expected host:port"))
        ),
    ],
)
def test_a_wrong_setting_is_one_line_with_key_value_and_what_is_allowed(
    tmp_path: Path,
    text: str,
    environment: dict[str, str],
    flags: dict[str, Any],
    told: tuple[str, ...],
) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text, environment, flags)
    line = str(caught.value)
    assert "\n" not in line
    for part in told:
        assert part in line


TWO = """
[[comfyui]]
name = "gpu0"
path = "{folder}"
environment = {{ CUDA_VISIBLE_DEVICES = "0" }}

[[comfyui]]
name = "studio"
url = "http://studio:8188"
"""


def test_tables_are_read_from_the_file_and_as_json_from_the_environment(tmp_path: Path) -> None:
    (gpu, studio) = load(tmp_path, TWO.format(folder=tmp_path)).comfyui
    assert (gpu.name, gpu.path) == ("gpu0", tmp_path)
    assert gpu.environment == {"CUDA_VISIBLE_DEVICES": "0"}
    assert studio.url == "http://studio:8188"
    variable = {"COMFY2MQTT_COMFYUI": '[{"name": "one", "url": "http://h:1"}]'}
    (one,) = load(tmp_path, TWO.format(folder=tmp_path), variable).comfyui
    assert one.name == "one"


def test_what_clients_may_do_is_a_table_for_each(tmp_path: Path) -> None:
    text = """
    [clients."*"]
    max_queue = 5
    [clients.kitchen]
    workflows = ["portrait", "frame-*"]
    inline = true
    """
    found = load(tmp_path, text).clients
    assert found == {
        "*": ClientRights(max_queue=5),
        "kitchen": ClientRights(workflows=("portrait", "frame-*"), inline=True),
    }


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('{"a b": {}}', "1 to 64"),
        ('{"**": {}}', "1 to 64"),
        ('{"a": {"inlin": true}}', "inlin"),
        ('{"a": {"max_priority": 101}}', "at most 100"),
        ('{"a": {"workflows": "one"}}', "a list"),
    ],
)
def test_a_wrong_table_of_a_client_says_what_is_wrong(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        load(tmp_path, "", {"COMFY2MQTT_CLIENTS": text})


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("not json", "JSON"),
        ('[{"name": "a b"}]', "1 to 64"),
        ('[{"name": "a", "ulr": "x"}]', "ulr"),
    ],
)
def test_a_wrong_table_says_what_is_wrong_with_it(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        load(tmp_path, "", {"COMFY2MQTT_COMFYUI": text})


def test_a_secret_is_not_shown_when_it_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, "comfyui_secret = 5 # hunter2", {}, {"mqtt_url": ["mqtt://u:hunter2@h"]})
    assert "hunter2" not in str(caught.value)


def test_a_file_that_was_named_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        config.load(None, {}, tmp_path / "gone.toml")


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"comfyui_url": "http://h:1", "comfyui_path": "."}, "give one"),
        ({"comfyui_python": "/usr/bin/python3"}, "needs comfyui_path"),
        ({"comfyui_url": "h:8188"}, "http://host:port"),
        *(
            ({"comfyui_url": url}, "http://host:port")
            for url in ("http://h:99999", "http://h:0", "http://h:x", "http://[::1")
        ),
        ({"public_url": "http://h:99999"}, "public_url: 'http://h:99999': expected http"),
        ({"websocket_origins": "https://home.example:99999"}, "websocket_origins: 'https://home"),
        ({"websocket_origins": "*,home.example"}, "websocket_origins: 'home.example'"),
        ({"websocket_origins": "self"}, "websocket_origins: 'self'"),
        ({"frame_ancestors": "home.example"}, "frame_ancestors: 'home.example': expected one of"),
        ({"frame_ancestors": "http://h; img-src *"}, "frame_ancestors: 'http://h; img-src"),
        ({"comfyui_path": "/nowhere"}, "main.py"),
        ({"workflows": "/nowhere"}, "existing folder"),
        ({"journal": "mysql://h/x"}, "journal: 'mysql://h/x': expected postgresql://"),
        ({"display": '[{"name": "a"}, {"name": "a"}]'}, "display.a: there are two"),
        ({"comfyui": '[{"name": "a"}, {"name": "a"}]'}, "two of that name"),
        ({"comfyui": '[{"name": "a", "url": "h:1"}]'}, "comfyui.a.url: 'h:1': expected http"),
        ({"comfyui": '[{"name": "a"}]', "comfyui_url": "http://h:1"}, "either"),
        (
            {"comfyui": '[{"name": "a", "url": "http://h", "environment": {"A": "b"}}]'},
            "environment",
        ),
        *(
            ({"clients": f'{{"a": {{"input_topics": ["cameras/#", "{topic}"]}}}}'}, "own topics")
            for topic in ("#", "+/snapshot", "comfy2mqtt", "comfy2mqtt/client/b/job/#")
        ),
    ],
)
def test_settings_that_do_not_fit_together_stop_a_bridge(
    tmp_path: Path, settings: dict[str, str], told: str
) -> None:
    found = load(tmp_path, "", {}, {"workflows": str(tmp_path), **settings})
    with pytest.raises(ConfigError, match=told):
        config.check(found)


@pytest.mark.parametrize(
    ("page", "metrics", "meet"),
    [
        ("127.0.0.1", "127.0.0.1", True),
        ("0.0.0.0", "127.0.0.1", True),  # noqa: S104 - only read
        ("", "[::1]", True),
        ("[::]", "[::1]", True),
        ("[::]", "127.0.0.1", False),
        ("[::]", "0.0.0.0", False),  # noqa: S104 - only read
        ("10.0.0.1", "127.0.0.1", False),
    ],
)
def test_page_and_metrics_do_not_listen_at_one_port(
    tmp_path: Path, page: str, metrics: str, *, meet: bool
) -> None:
    given = {"websocket_listen": f"{page}:9464", "metrics_listen": f"{metrics}:9464"}
    found = load(tmp_path, "", {}, {**given, "workflows": str(tmp_path)})
    # The web adapter alone has no metrics.
    config.check_websocket(found)
    if not meet:
        config.check(found)
        return
    with pytest.raises(ConfigError, match=r"^metrics_listen: .*: websocket_listen has that port"):
        config.check(found)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("model_hosts", "my_mirror.lan,::1,bücher.example,*.huggingface.co"),
        ("comfyui_torch_index", "file:///srv/wheels"),
        ("comfyui_torch_index", "/srv/wheels"),
        ("comfyui_torch_index", "https://u:p@h/simple?token=x"),
    ],
)
def test_downloads_come_from_where_they_came_before(tmp_path: Path, name: str, value: str) -> None:
    config.check(load(tmp_path, "", {}, {name: value, "workflows": str(tmp_path)}))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("model_hosts", "https://huggingface.co"),
        ("comfyui_torch_index", "--index-url=x"),
        ("comfyui_torch_index", "https://h:x/simple"),
        ("comfyui_repository", "--upload-pack=x"),
    ],
)
def test_a_place_that_nothing_can_come_from_is_refused(
    tmp_path: Path, name: str, value: str
) -> None:
    found = load(tmp_path, "", {}, {name: value, "workflows": str(tmp_path)})
    with pytest.raises(ConfigError, match=f"^{name}: "):
        config.check(found)


@pytest.mark.parametrize(
    "journal",
    [
        "postgresql://u:hunter2?x@h:5432/db",
        "postgresql://u:hunter2#x@h/db?sslmode=require",
        "postgresql://u:hunter2[x@h1:5432,h2:5433,:5434/db?target_session_attrs=read-write",
        "postgresql://u:hunter2%40x@[::1]:5432,[fe80::1%25eth0]/db",
        f"postgresql://u:hunter2x@%2Frun%2F{'long-' * 15}%2F.s%2F..%2Fpostgresql:5433/db",
        "postgresql://u:hunter2x@/db?host=/run/postgresql",
        "postgres://u:hunter2x@my_db.:/db",
    ],
)
def test_a_journals_address_is_what_libpq_takes(tmp_path: Path, journal: str) -> None:
    parsed = pytest.importorskip("psycopg.conninfo").conninfo_to_dict(journal)
    found = load(tmp_path, "", {}, {"journal": journal, "workflows": str(tmp_path)})
    config.check(found)
    assert parsed["password"] in found.secrets
    for each in ("postgresql:///db?host=/run/postgresql", "postgresql://?service=a"):
        config.check(load(tmp_path, "", {}, {"journal": each, "workflows": str(tmp_path)}))


@pytest.mark.parametrize("where", ["h:x", "h:99999", "h:0", "a..b", "[::1", "h,i:x", "x:p@h"])
def test_a_journals_address_that_libpq_cannot_use_is_refused(tmp_path: Path, where: str) -> None:
    journal = f"postgresql://u:hunter2@{where}/db"
    found = load(tmp_path, "", {}, {"journal": journal, "workflows": str(tmp_path)})
    with pytest.raises(ConfigError, match=r"^journal: ") as caught:
        config.check(found)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "proxy", ["::1", "fd00::/8", "FD00::/8", "2001:0db8::/32", "10.0.0.0/255.0.0.0", "10.0.0.1/32"]
)
def test_a_proxys_network_is_written_in_any_of_its_forms(tmp_path: Path, proxy: str) -> None:
    config.check(load(tmp_path, "", {}, {"trusted_proxies": proxy, "workflows": str(tmp_path)}))


@pytest.mark.parametrize(
    ("proxy", "told"),
    [
        ("proxy.lan", "such as 10.0.0.0/8$"),
        ("10.0.0.1/8", "is it 10.0.0.0/8"),
        ("FD00::1/8", "is it fd00::/8"),
    ],
)
def test_what_is_no_proxys_network_is_refused(tmp_path: Path, proxy: str, told: str) -> None:
    found = load(tmp_path, "", {}, {"trusted_proxies": proxy, "workflows": str(tmp_path)})
    with pytest.raises(ConfigError, match=told):
        config.check(found)


def test_misspelt_variables_are_noticed() -> None:
    environment = {
        "COMFY2MQTT_MQTT_URI": "x",
        "COMFY2MQTT_MQTT_URL": "x",
        "COMFY2MQTT_TEST_ANYTHING": "x",
        "COMFY2MQTT_SECRET": "x",
        "OTHER": "x",
    }
    assert config.unknown(environment) == ["COMFY2MQTT_MQTT_URI"]


def documented_under(heading: str) -> dict[str, str]:
    """Return the defaults by name, of all tables with this first heading."""
    found: dict[str, str] = {}
    inside = False
    for line in DOCUMENT.read_text().splitlines():
        cells = [cell.strip().strip("`") for cell in line.split("|")[1:-1]]
        inside = line.startswith("|") and (inside or cells[0] == heading)
        if inside and line.startswith("| `"):
            found[cells[0]] = cells[1]
    return found


def test_every_field_of_a_clients_table_is_documented_with_its_default() -> None:
    documented = documented_under("field")
    assert list(documented) == list(ClientRights.__struct_fields__)
    for name in ("max_priority", "max_queue", "requests_per_s"):
        assert float(documented[name].replace(",", "")) == getattr(Granted(), name), name


def test_every_setting_is_documented_with_its_default() -> None:
    documented = documented_under("setting")
    assert set(documented) == set(config.TYPES)
    for name, told in documented.items():
        default = getattr(Config(), name)
        if isinstance(default, int | float) and not isinstance(default, bool):
            assert float(told.replace(",", "")) == default, name


def test_the_key_for_partner_nodes_is_in_a_file_or_a_variable(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("comfyui-abc\nnot the key\n")
    found = load(tmp_path, f'comfyui_api_key_file = "{file}"')
    config.check(found)
    assert found.comfyuis[0].read_api_key() == "comfyui-abc"
    assert "comfyui-abc" in found.secrets
    found = load(tmp_path, "", {"COMFY2MQTT_COMFYUI_API_KEY": "comfyui-abc"})
    config.check(found)
    assert (found.comfyuis[0].read_api_key(), found.secrets) == ("comfyui-abc", ("comfyui-abc",))
    tables = f'[{{"name": "a", "api_key_file": "{file}"}}, {{"name": "b"}}]'
    found = load(tmp_path, "", {"COMFY2MQTT_COMFYUI": tables})
    config.check(found)
    assert [each.read_api_key() for each in found.comfyuis] == ["comfyui-abc", None]


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"comfyui_api_key_file": "gone"}, "comfyui_api_key_file.*gone.*No such file"),
        ({"comfyui_api_key_file": "."}, "comfyui_api_key_file.*directory"),
        ({"comfyui_api_key_file": "empty"}, "comfyui_api_key_file.*expected a key"),
        ({"comfyui_api_key_file": "bytes"}, "comfyui_api_key_file.*file of text"),
        ({"comfyui_api_key": "sécret"}, "comfyui_api_key.*expected a key"),
        ({"comfyui_api_key": "a", "comfyui_api_key_file": "empty"}, "give one"),
        ({"comfyui": '[{"name": "a", "api_key": " "}]'}, "comfyui.a.api_key.*expected a key"),
    ],
)
def test_a_key_that_cannot_be_one_stops_the_start_and_is_not_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, str], told: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "bytes").write_bytes(b"\xff\xfe\xfd")
    variables = {f"COMFY2MQTT_{name.upper()}": value for name, value in settings.items()}
    found = load(tmp_path, "", {**variables, "COMFY2MQTT_WORKFLOWS": str(tmp_path)})
    with pytest.raises(ConfigError, match=told) as caught:
        config.check(found)
    assert "sécret" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('blobs = "pictures"', "expected s3://bucket"),
        ('blobs = "s3://pictures/a b"', "expected s3://bucket"),
        ('blobs = "s3://b/x"', "the bucket's name with three at least"),
        ('s3_endpoint = "http://minio:9000"', "s3_endpoint: needs blobs"),
        ('links = "store"', "links: needs blobs"),
        ('blobs = "s3://pictures"\ns3_endpoint = "minio:9000"', "s3_endpoint: 'minio:9000'"),
        ('blobs = "s3://pictures"\ns3_access_key = "x"', "give both, or neither"),
        (
            'blobs = "s3://pictures"\ns3_access_key = "x"\ns3_secret_key_file = "/no/such"',
            "s3_secret_key_file: '/no/such': expected a file",
        ),
    ],
)
def test_a_bucket_needs_settings_that_go_together(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        config.check(load(tmp_path, text))


def test_a_bucket_is_a_name_and_a_prefix_and_its_secret_is_one(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("hunter2\n")
    file = tmp_path / "secret"
    found = load(
        tmp_path,
        f'blobs = "s3://pictures/a/b/"\ns3_access_key = "x"\ns3_secret_key_file = "{file}"',
    )
    config.check(found)
    assert found.bucket == ("pictures", "a/b")
    assert "hunter2" in found.secrets
