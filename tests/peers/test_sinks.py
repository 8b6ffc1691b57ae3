"""Outputs delivered to servers of others: moto's S3 by presigned URLs, and WsgiDAV."""

from __future__ import annotations

import base64
import hashlib
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from bridge.config import ClientRights
from bridge.contract.messages import OutputInfo
from bridge.contract.sinks import Delivered
from bridge.jobs.job import Envelope, OutputSink
from bridge.requests.permissions import Permissions
from bridge.requests.sinks import Sinks
from bridge.sinks.delivery import Deliveries
from tests.jobs.drafts import draft
from tests.peers import servers
from tests.peers.servers import MOTO, output_of, serving

pytestmark = [pytest.mark.peers, pytest.mark.timeout(600)]

DATA = b"a barn " * 300_000  # in several pieces
SHA256 = hashlib.sha256(DATA).hexdigest()
INFO = OutputInfo(
    index=0, name="x", kind="image", content_type="image/png", size=len(DATA), sha256=SHA256
)
# Prints a presigned URL for a PUT and one for a GET, once the bucket is there.
PRESIGN = """
import sys, boto3
s3 = boto3.client("s3", endpoint_url=sys.argv[1], region_name="us-east-1",
                  aws_access_key_id="x", aws_secret_access_key="y")
s3.create_bucket(Bucket="pictures")
for how in ("put_object", "get_object"):
    print(s3.generate_presigned_url(how, Params={"Bucket": "pictures", "Key": "a/barn 1.png"}))
"""
GET = """
import sys, urllib.request
sys.stdout.buffer.write(urllib.request.urlopen(sys.argv[1]).read())
"""


@pytest.fixture(scope="module")
def python() -> Path:
    return servers.python()


async def read(_sha256: str, size: int) -> AsyncIterator[bytes]:
    for start in range(0, size, 500_000):
        yield DATA[start : start + 500_000]


async def deliver(*sinks: OutputSink) -> list[Delivered]:
    rights = Sinks(Permissions({"alice": ClientRights(sink_hosts=("127.0.0.1",))}))

    async def publish(*_: Any) -> None:
        raise AssertionError

    deliveries = Deliveries(
        check=rights.check, read=read, folders={}, publish=publish, within_s=10.0
    )
    try:
        return await deliveries.deliver(draft(envelope=Envelope(put=[*sinks])).job, [INFO])
    finally:
        deliveries.close()


async def test_an_output_is_put_to_a_presigned_url_of_s3(python: Path) -> None:
    with serving(python, *MOTO) as s3:
        put, get = (await output_of(python, "-c", PRESIGN, s3)).decode().split()
        (found,) = await deliver(OutputSink(put))
        assert not found.error, found.error
        assert found.url == f"{s3}/pictures/a/barn%201.png"
        assert await output_of(sys.executable, "-c", GET, get) == DATA
        (lost,) = await deliver(OutputSink(put.replace("/pictures/", "/other/")))
        assert lost.error
        assert "404" in lost.error.message
        assert "NoSuchBucket" in lost.error.message


async def test_an_output_is_put_to_webdav_and_missing_folders_are_made(
    python: Path, tmp_path: Path
) -> None:
    config = tmp_path / "wsgidav.json"
    users = '{"*": {"alice": {"password": "secret"}}}'
    config.write_text(f'{{"simple_dc": {{"user_mapping": {users}}}}}')
    root = tmp_path / "dav"
    root.mkdir()
    command = (python.parent / "wsgidav", "--config", config, "--host", "127.0.0.1")
    with serving(*command, "--root", root, "--port") as dav:
        secret = base64.b64encode(b"alice:secret").decode()
        url = f"{dav}/pictures/{{date}}/"
        held, refused = await deliver(
            OutputSink(url, headers={"Authorization": f"Basic {secret}"}),
            OutputSink(f"{dav}/x.png", headers={"Authorization": "Basic eDp5"}),
        )
        assert not held.error, held.error
        (file,) = (path for path in root.rglob("*") if path.is_file())
        assert (file.name, file.read_bytes()) == ("j1-0.png", DATA)
        assert refused.error
        assert refused.error.message == "the server answers 401 Not Authorized"
