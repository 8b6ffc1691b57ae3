"""The manifests by programs of others: kubectl renders them, and KEDA's own schema has its part."""

from __future__ import annotations

import json
import shutil
import subprocess
from typing import Any

import kubernetes_validate
import pytest
import yaml

from tests.deploy.test_kubernetes import FOLDER, VERSIONS, read
from tests.peers import debian, npm

pytestmark = [pytest.mark.peers, pytest.mark.timeout(300)]

# The schemas of KEDA's resources: types, what is required, and words; no fields that there are not.
KEDA = "@kubernetes-models/keda@2.0.0"
CHECK = """
import { readFileSync } from "node:fs";
import { ScaledObject } from "@kubernetes-models/keda/keda.sh/v1alpha1/ScaledObject";
const given = new ScaledObject(JSON.parse(readFileSync(0)));
try { given.validate(); } catch (error) { console.log(error.message); }
"""


@pytest.fixture(scope="module")
def rendered() -> list[Any]:
    """Render the manifests as `kubectl apply -k` would send them."""
    program = shutil.which("kubectl") or debian.ensure("kubernetes-client") / "usr/bin/kubectl"
    told = subprocess.run(
        (program, "kustomize", FOLDER), check=True, capture_output=True, text=True
    ).stdout
    return list(yaml.safe_load_all(told))


def one(rendered: list[Any], kind: str) -> Any:
    (found,) = [each for each in rendered if each["kind"] == kind]
    return found


@pytest.mark.parametrize("version", VERSIONS)
def test_what_is_rendered_is_as_kubernetes_describes_it(rendered: list[Any], version: str) -> None:
    assert len(rendered) == len(read("kustomization.yaml")["resources"]) + 1
    for each in rendered:
        kubernetes_validate.validate(each, version, strict=True)


def test_what_is_rendered_names_what_is_rendered_beside_it(rendered: list[Any]) -> None:
    pod = one(rendered, "StatefulSet")["spec"]["template"]["spec"]
    settings = one(rendered, "ConfigMap")
    # Its name ends in a hash of its content: pods are started again when the settings change.
    assert settings["metadata"]["name"] != "comfy2mqtt"
    named = [each["configMap"]["name"] for each in pod["volumes"] if "configMap" in each]
    assert named == [settings["metadata"]["name"]]
    assert settings["data"] == {"comfy2mqtt.toml": (FOLDER / "comfy2mqtt.toml").read_text()}
    containers = [*pod["initContainers"], *pod["containers"]]
    images = {
        f"{each['newName']}:{each['newTag']}" for each in read("kustomization.yaml")["images"]
    }
    assert {each["image"] for each in containers} == images
    sources = [each.get("valueFrom", {}) for part in containers for each in part["env"]]
    secrets = {each["secretKeyRef"]["name"] for each in sources if "secretKeyRef" in each}
    assert secrets == {one(rendered, "Secret")["metadata"]["name"]}


def fault_of(manifest: Any) -> str:
    """Return what KEDA's schema says against a ScaledObject; nothing where it is one."""
    folder = npm.ensure(KEDA)
    command = (npm.node(), "--input-type=module", "--eval", CHECK)
    given = json.dumps(manifest)
    told = subprocess.run(
        command, input=given, cwd=folder, check=True, stdout=subprocess.PIPE, text=True
    )
    return told.stdout.strip()


def test_the_scaled_object_is_as_keda_describes_it() -> None:
    assert fault_of(read("scaledobject.yaml")) == ""


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("minReplicaCount",), "one"),
        (("triggers", 0, "metadata", "targetValue"), 120),
        (("fallback", "behavior"), "whatever"),
        (("scaleTargetRef", "name"), None),
    ],
)
def test_the_schema_finds_what_keda_would_refuse(place: tuple[Any, ...], value: Any) -> None:
    wrong = read("scaledobject.yaml")
    parent = wrong["spec"]
    for each in place[:-1]:
        parent = parent[each]
    parent[place[-1]] = value
    assert fault_of(wrong).startswith("data/spec/" + "/".join(map(str, place)))
