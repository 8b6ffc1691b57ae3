"""OpenStack's Swift with its S3 interface, on loopback: a proxy and the three servers behind it."""

from __future__ import annotations

import getpass
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.peers import servers

# Access key and secret key of the only user.
USER, PASSWORD = "test:tester", "testing"
PACKAGES = ("swift==2.38.3", "setuptools==80.9.0")
STORES = ("account", "container", "object")

_COMMON = """
[DEFAULT]
bind_ip = 127.0.0.1
bind_port = {port}
workers = 0
swift_dir = {folder}
devices = {folder}/devices
mount_check = false
fallocate_reserve = 0
user = {user}
# Not into the system's log.
log_udp_host = 127.0.0.1
log_udp_port = 9
"""
_STORE = """
[pipeline:main]
pipeline = {name}-server
[app:{name}-server]
use = egg:swift#{name}
"""
_PROXY = """
[pipeline:main]
pipeline = catch_errors cache listing_formats bulk s3api tempauth copy slo dlo proxy-server
[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
[filter:catch_errors]
use = egg:swift#catch_errors
# It remembers nothing: there is no memcached.
[filter:cache]
use = egg:swift#memcache
memcache_servers = 127.0.0.1:9
[filter:listing_formats]
use = egg:swift#listing_formats
[filter:bulk]
use = egg:swift#bulk
[filter:s3api]
use = egg:swift#s3api
location = us-east-1
[filter:tempauth]
use = egg:swift#tempauth
user_test_tester = testing .admin
[filter:copy]
use = egg:swift#copy
[filter:slo]
use = egg:swift#slo
[filter:dlo]
use = egg:swift#dlo
"""
_HASHES = "[swift-hash]\nswift_hash_path_prefix = x\nswift_hash_path_suffix = y\n"
_BUCKET = """
import boto3, sys
url, name, user, password = sys.argv[1:]
keys = {"aws_access_key_id": user, "aws_secret_access_key": password}
boto3.client("s3", "us-east-1", endpoint_url=url, **keys).create_bucket(Bucket=name)
"""


@contextmanager
def serving(folder: Path, bucket: str) -> Iterator[str]:
    """Run it below `folder`, with an empty bucket; yields its address."""
    programs = servers.python(PACKAGES).parent
    ports = {name: servers.free_port() for name in (*STORES, "proxy")}
    (folder / "devices/d1").mkdir(parents=True)
    (folder / "swift.conf").write_text(_HASHES)
    with ExitStack() as stack:
        for name, port in ports.items():
            if name in STORES:
                _place(programs, folder / f"{name}.builder", port)
            own = _STORE.format(name=name) if name in STORES else _PROXY
            common = _COMMON.format(port=port, folder=folder, user=getpass.getuser())
            settings = folder / f"{name}.conf"
            settings.write_text(common + own)
            stack.enter_context(servers.running(port, programs / f"swift-{name}-server", settings))
        url = f"http://127.0.0.1:{ports['proxy']}"
        subprocess.run((servers.python(), "-c", _BUCKET, url, bucket, USER, PASSWORD), check=True)
        yield url


def _place(programs: Path, builder: Path, port: int) -> None:
    """Say where all of it is: one copy, on the only disk."""
    for words in (
        ("create", "4", "1", "1"),
        ("add", f"r1z1-127.0.0.1:{port}/d1", "1"),
        ("rebalance",),
    ):
        command = (programs / "swift-ring-builder", builder, *words)
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
