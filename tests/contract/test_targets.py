from __future__ import annotations

from typing import Any

import pytest

from bridge.contract import targets
from bridge.contract.errors import BadRequest
from bridge.contract.messages import OutputInfo
from bridge.contract.targets import FolderTarget, HttpTarget, TopicTarget

PRESIGNED = "https://b.s3.example.com/x.png?X-Amz-Signature=a%2Fb%3D&X-Amz-Expires=60"


def info(index: int = 0, **changes: Any) -> OutputInfo:
    given = {
        "index": index,
        "name": "image",
        "kind": "image",
        "content_type": "image/png",
        "size": 3,
        "sha256": "ab" * 32,
        **changes,
    }
    return OutputInfo(**given)


def values(output: OutputInfo, **changes: str) -> dict[str, str]:
    given = {"client": "alice", "job_id": "j1", "workflow": "w", **changes}
    return targets.facts(output, ("2026-11-29", "120000"), set_id=None, **given)


@pytest.mark.parametrize(
    ("url", "target"),
    [
        (PRESIGNED, HttpTarget(PRESIGNED, "b.s3.example.com")),
        ("HTTP://Host:80/", HttpTarget("HTTP://Host:80/", "host")),
        ("http://[::1]:8080/x", HttpTarget("http://[::1]:8080/x", "::1")),
        ("folder:photos", FolderTarget("photos")),
        ("mqtt:home/{client}/image", TopicTarget("home/{client}/image")),
    ],
)
def test_a_url_says_where_an_output_is_to_go(url: str, target: object) -> None:
    assert targets.read(url) == target


@pytest.mark.parametrize(
    "url",
    [
        "",
        "x",
        "ftp://host/x",
        "file:///etc/passwd",
        "gopher://host",
        "https://",
        "https:///x",
        "http://ho st/",
        "http://host/\r\nX: y",
        "http://host/ü",
        "http://host:0/",
        "http://host:99999/",
        "http://[::1/",
        "http://a@b@host/",
        "http://user:secret@host/",
        "http://host\\@inside/",
        "http://host/x#y",
        "http://{client}.host/x",
        "http://host/{nothing}",
        "http://host/{job_id",
        "folder:",
        "folder:../../etc",
        "folder:photos/x",
        "folder:a b",
        "mqtt:",
        "mqtt:home/#",
        "mqtt:home/+/x",
        "mqtt:$SYS/x",
        "mqtt:/x",
        "mqtt:x\0",
    ],
)
def test_what_is_no_target_is_refused_with_the_field(url: str) -> None:
    with pytest.raises(BadRequest) as refused:
        targets.read(url, "put[3].url")
    assert refused.value.details["field"] == "put[3].url"
    assert "secret" not in refused.value.message


def test_a_webhook_is_http() -> None:
    assert targets.read_http("https://h/x", "webhook.url").host == "h"
    for url in ("mqtt:x", "folder:x", "x"):
        with pytest.raises(BadRequest):
            targets.read_http(url, "webhook.url")


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "inside"},
        {"content-length": "1"},
        {"Transfer-Encoding": "chunked"},
        {"X Y": "z"},
        {"": "z"},
        {"X": "a\r\nEvil: b"},
        {"X": "ü"},
        {"X": "x" * 5000},
    ],
)
def test_no_header_reframes_a_request_or_leads_it_elsewhere(headers: dict[str, str]) -> None:
    with pytest.raises(BadRequest):
        targets.check_headers(headers)


def test_other_headers_are_the_clients_own() -> None:
    targets.check_headers({"Authorization": "Basic eA==", "x-ms-blob-type": "BlockBlob"})


@pytest.mark.parametrize(
    "template",
    ["../x", "a/../x", "a/..", "/x", "x/", "a//b", ".", "", "a\\b", "a\0", "{nothing}"],
)
def test_a_template_of_files_cannot_lead_out_of_its_folder(template: str) -> None:
    with pytest.raises(BadRequest):
        targets.check_file(template, "file")


def test_no_value_leads_out_of_a_folder() -> None:
    evil = info(name="../../x", filename="..\\..\\etc/passwd", content_type="a/../b")
    found = values(evil, workflow="../w")
    assert not [each for each in found.values() if "/" in each or "\\" in each]
    assert values(info(filename=".."))["filename"] == "__"
    targets.check_file("{client}/{date}/{filename}", "file")
    assert targets.filled("{client}/{name}", found) == "alice/.._.._x"


def test_a_presigned_url_is_used_as_it_is() -> None:
    target = targets.read(PRESIGNED)
    assert isinstance(target, HttpTarget)
    assert targets.url_for(target, values(info())) == PRESIGNED
    assert targets.shown(PRESIGNED) == "https://b.s3.example.com/x.png"


def test_in_a_url_values_are_encoded_and_a_folder_gets_a_name() -> None:
    found = values(info(3, filename="a b.png"))
    named = targets.read("https://h/{filename}?x={index}")
    folder = targets.read("https://h/dav/?token=1")
    assert isinstance(named, HttpTarget)
    assert isinstance(folder, HttpTarget)
    assert targets.url_for(named, found) == "https://h/a_b.png?x=3"
    assert targets.url_for(folder, found) == "https://h/dav/j1-3.png?token=1"


@pytest.mark.parametrize(
    ("url", "output", "chosen"),
    [
        (PRESIGNED, None, [0]),
        (PRESIGNED, 1, [1]),
        (PRESIGNED, 7, []),
        ("https://h/dav/", None, [0, 1, 2]),
        ("https://h/dav/", 2, [2]),
        ("https://h/{job_id}-{index}", None, [0, 1, 2]),
        ("https://h/{job_id}", None, [0]),
        ("folder:photos", None, [0, 1, 2]),
        ("mqtt:home/frame", None, [0]),
        ("mqtt:home/{index}", None, [0, 1, 2]),
    ],
)
def test_all_outputs_go_where_they_are_distinguished_and_else_the_first(
    url: str, output: int | None, chosen: list[int]
) -> None:
    outputs = [info(index) for index in range(3)]
    found = targets.chosen(targets.read(url), output, outputs)
    assert [each.index for each in found] == chosen


@pytest.mark.parametrize(
    ("url", "apart"),
    [
        (PRESIGNED, False),
        ("https://h/{index}.png", False),
        ("https://h/{job_id}.png", True),
        ("https://h/dav/", True),
        ("folder:photos", True),
        ("mqtt:home/frame", False),
        ("mqtt:home/{sha256}", True),
    ],
)
def test_the_jobs_of_a_set_need_a_place_each(url: str, *, apart: bool) -> None:
    assert targets.differs_per_job(targets.read(url)) is apart


@pytest.mark.parametrize(
    ("content_type", "extension"),
    [
        ("image/png", "png"),
        ("image/jpeg", "jpg"),
        ("text/plain; charset=utf-8", "txt"),
        ("audio/x-flac", "flac"),
        ("application/octet-stream", "bin"),
        ("../../x", "x"),
        ("", "bin"),
    ],
)
def test_an_extension_is_that_of_the_type(content_type: str, extension: str) -> None:
    assert targets.extension_of(info(content_type=content_type)) == extension


@pytest.mark.parametrize(
    ("content_type", "filename", "extension"),
    [
        ("application/octet-stream", "ComfyUI_00001_.latent", "latent"),
        ("model/gltf-binary", "ComfyUI_00001_.glb", "glb"),
        ("application/octet-stream", "odd.a/../b", "bin"),
        ("application/octet-stream", "none", "bin"),
        ("image/png", "picture.exe", "png"),
    ],
)
def test_an_extension_of_a_type_that_says_nothing_is_the_files_own(
    content_type: str, filename: str, extension: str
) -> None:
    output = info(content_type=content_type, filename=filename)
    assert targets.extension_of(output) == extension
