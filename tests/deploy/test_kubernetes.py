"""The manifests of a group are Kubernetes', and name what the bridge has."""

from __future__ import annotations

import asyncio
import tomllib
import urllib.error
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import kubernetes_validate
import pytest
import yaml
from msgspec.structs import fields

from bridge import config
from bridge.adapters.scaling import BacklogReport, Scaling, ScalingSources
from bridge.mosquitto import Mosquitto
from tests.adapters.test_metrics import free_port
from tests.adapters.test_scaling import get, until
from tests.conftest import StartBridge
from tests.support.postgresql import PostgreSQL

FOLDER = Path(__file__).parents[2] / "docs" / "deploy" / "kubernetes"
# The first one that starts and ends sidecars around containers by default, and the newest known.
VERSIONS = ("1.29", kubernetes_validate.latest_version())
# Of other programs: no schema of Kubernetes' describes them.
OTHERS = {"kustomization.yaml", "scaledobject.yaml"}
MANIFESTS = sorted(path.name for path in FOLDER.glob("*.yaml"))


def read(name: str) -> Any:
    return yaml.safe_load((FOLDER / name).read_text())


def pod() -> Any:
    return read("statefulset.yaml")["spec"]["template"]


def bridge_container() -> Any:
    (found,) = pod()["spec"]["containers"]
    return found


def environment() -> dict[str, str]:
    """The bridge's environment in its first pod."""
    secret = read("secret.yaml")
    values = {}
    for each in bridge_container()["env"]:
        source = each.get("valueFrom", {})
        if "secretKeyRef" in source:
            assert source["secretKeyRef"]["name"] == secret["metadata"]["name"]
            values[each["name"]] = secret["stringData"][source["secretKeyRef"]["key"]]
        elif "fieldRef" in source:
            assert source["fieldRef"]["fieldPath"] == "metadata.name"
            values[each["name"]] = f"{read('statefulset.yaml')['metadata']['name']}-0"
        else:
            values[each["name"]] = each["value"]
    return values


def settings() -> config.Config:
    return config.load({}, environment(), FOLDER / "comfy2mqtt.toml")


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", [each for each in MANIFESTS if each not in OTHERS])
def test_a_manifest_is_as_kubernetes_describes_it(name: str, version: str) -> None:
    kubernetes_validate.validate(read(name), version, strict=True)


def test_the_validation_finds_a_field_that_there_is_not() -> None:
    wrong = read("statefulset.yaml")
    wrong["spec"]["template"]["spec"]["terminationGracePeriod"] = 1
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, VERSIONS[0], strict=True)


def test_the_kustomization_has_all_of_them_and_their_images() -> None:
    found = read("kustomization.yaml")
    assert {*found["resources"], *OTHERS} == set(MANIFESTS)
    (generated,) = found["configMapGenerator"]
    assert all((FOLDER / file).is_file() for file in generated["files"])
    (mounted,) = [each for each in pod()["spec"]["volumes"] if "configMap" in each]
    assert mounted["configMap"]["name"] == generated["name"]
    containers = [*pod()["spec"]["initContainers"], *pod()["spec"]["containers"]]
    assert {each["image"] for each in containers} == {each["name"] for each in found["images"]}


def test_the_bridge_takes_the_settings_that_it_is_given() -> None:
    names = {name.removeprefix(config.PREFIX).lower() for name in environment()}
    assert names <= config.TYPES.keys()
    assert tomllib.loads((FOLDER / "comfy2mqtt.toml").read_text()).keys() <= config.TYPES.keys()
    found = settings()
    config.check(found)
    assert found.member_name == "comfy2mqtt-0"
    assert f"--config=/etc/comfy2mqtt/{'comfy2mqtt.toml'}" in bridge_container()["args"]
    assert {each["mountPath"] for each in bridge_container()["volumeMounts"]} >= {
        "/etc/comfy2mqtt",
        "/data",
    }
    assert str(found.data).startswith("/data/")
    (comfyui,) = pod()["spec"]["initContainers"]
    url = urlsplit(found.comfyui_url or "")
    assert {f"--listen={url.hostname}", f"--port={url.port}"} <= set(comfyui["args"])


def test_a_bridge_and_its_comfyui_have_their_time_to_stop() -> None:
    assert pod()["spec"]["terminationGracePeriodSeconds"] >= settings().stop_s + 20
    (comfyui,) = pod()["spec"]["initContainers"]
    assert comfyui["restartPolicy"] == "Always"  # a sidecar: it ends after the bridge


async def test_probes_and_the_autoscaler_ask_for_what_is_served() -> None:
    async def nothing() -> Any:
        raise AssertionError

    scaling = Scaling(ScalingSources(nothing, lambda: True, lambda: None))
    served = {route.path for route in scaling.routes}
    port = int((settings().metrics_listen or "").rpartition(":")[2])
    (exposed,) = bridge_container()["ports"]
    assert exposed["containerPort"] == port
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert bridge_container()[probe]["httpGet"]["path"] in served
        assert bridge_container()[probe]["httpGet"]["port"] == exposed["name"]

    service = read("service.yaml")
    scaled = read("scaledobject.yaml")["spec"]
    for trigger in scaled["triggers"]:
        url = urlsplit(trigger["metadata"]["url"])
        assert (url.hostname, url.port) == (service["metadata"]["name"], port)
        assert url.path in served
        asked = trigger["metadata"]["valueLocation"]
        assert asked in {field.encode_name for field in fields(BacklogReport)}
    target = read("statefulset.yaml")
    assert scaled["scaleTargetRef"]["name"] == target["metadata"]["name"]
    assert scaled["scaleTargetRef"]["kind"] == target["kind"]
    assert scaled["minReplicaCount"] >= 1
    assert "replicas" not in target["spec"]  # each `kubectl apply` would undo what KEDA did
    (reached,) = service["spec"]["ports"]
    assert (reached["port"], reached["targetPort"]) == (port, exposed["name"])
    assert target["spec"]["serviceName"] == service["metadata"]["name"]


def test_everything_selects_the_pods_that_there_are() -> None:
    labels = pod()["metadata"]["labels"]
    assert read("service.yaml")["spec"]["selector"] == labels
    assert read("statefulset.yaml")["spec"]["selector"]["matchLabels"] == labels
    assert read("poddisruptionbudget.yaml")["spec"]["selector"]["matchLabels"] == labels
    assert read("networkpolicy.yaml")["spec"]["podSelector"]["matchLabels"] == labels


def test_no_container_is_root_or_may_become_it() -> None:
    assert pod()["spec"]["securityContext"]["runAsNonRoot"] is True
    for each in [*pod()["spec"]["initContainers"], *pod()["spec"]["containers"]]:
        assert each["securityContext"]["allowPrivilegeEscalation"] is False
        assert each["securityContext"]["capabilities"] == {"drop": ["ALL"]}


def test_nothing_in_them_is_a_password() -> None:
    for value in read("secret.yaml")["stringData"].values():
        assert "CHANGE-ME" in value


@pytest.mark.broker
@pytest.mark.postgresql
async def test_a_bridge_with_the_settings_of_a_pod_becomes_ready(
    bridges: StartBridge, broker: Mosquitto, postgresql: PostgreSQL, tmp_path: Path
) -> None:
    port = free_port()
    given = {name.removeprefix(config.PREFIX).lower(): each for name, each in environment().items()}
    with postgresql.database() as journal:
        reached = {
            "mqtt_url": broker.url,
            "journal": journal,
            "metrics_listen": f"127.0.0.1:{port}",
            "data": tmp_path / "data" / "bridge",
        }
        bridge = await bridges(start=False, **{**given, **reached})
        bridge.environment["COMFY2MQTT_CONFIG"] = str(FOLDER / "comfy2mqtt.toml")
        await bridge.start(ready=False)
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            path = bridge_container()[probe]["httpGet"]["path"]
            await until(partial(answers, port, path), lambda status: status == 200)
        assert f'"{given["member"]}' in bridge.log.replace("'", '"')
        assert bridge.log.startswith("{")  # log_format, which the file of settings has
        assert await bridge.stop() == 0


async def answers(port: int, path: str) -> int:
    """The status of an answer; 0 while nobody listens."""
    try:
        status, _ = await asyncio.to_thread(get, port, path)
    except urllib.error.URLError:
        return 0
    return status
