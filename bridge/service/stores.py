"""The places that settings name: the store of large blobs, and the library of workflows."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from bridge.config import Config, first_line
from bridge.jobs.database import DatabaseError, need_driver
from bridge.media.files import Files, Folder, MigratingFiles
from bridge.resources import how_to_add
from bridge.workflows.catalogue import NodeRules
from bridge.workflows.library import OBJECT_INFO, Library

if TYPE_CHECKING:
    from bridge.jobs.object_store import ObjectStore


def library_of(config: Config) -> Library:
    """Return the library, to be opened, with what a bridge has kept of its ComfyUIs."""
    comfyuis = {config.instance_name(each): each for each in config.comfyuis}
    return Library(
        config.workflows,
        config.folder / OBJECT_INFO,
        list(comfyuis),
        NodeRules(config.allow_nodes, config.deny_nodes),
        keyed=[name for name, each in comfyuis.items() if each.api_key or each.api_key_file],
    )


def files_of(config: Config) -> Files:
    """Return the store of large outputs and inputs. Raises DatabaseError."""
    beside = _beside_journal(config)
    return beside if config.bucket is None else MigratingFiles(bucket_of(config), beside)


def bucket_of(config: Config) -> ObjectStore:
    """Return the store in the bucket that is set. Raises DatabaseError."""
    _need_obstore()
    if config.bucket is None:
        raise DatabaseError("no bucket is set: blobs")
    # An extra, as is PostgreSQL's driver: who has no bucket needs none.
    from bridge.jobs.object_store import BucketAddress, ObjectStore  # noqa: PLC0415

    bucket, prefix = config.bucket
    secret = config.s3_secret_key_file
    return ObjectStore.at(
        BucketAddress(
            bucket=bucket,
            prefix=prefix,
            endpoint=config.s3_endpoint,
            links_from=config.s3_public_endpoint,
            region=config.s3_region,
            access_key=config.s3_access_key,
            secret_key=None if secret is None else first_line(secret),
        ),
        links=config.links == "store",
    )


def need_extras(config: Config) -> None:
    """See that the extras which these settings need are installed. Raises DatabaseError."""
    if config.journal:
        need_driver()
    if config.bucket is not None:
        _need_obstore()


def _need_obstore() -> None:
    try:
        importlib.import_module("obstore")
    except ImportError:
        raise DatabaseError(f"blobs in a bucket need obstore: {how_to_add('s3')}") from None


def _beside_journal(config: Config) -> Files:
    if not config.journal:
        return Folder(config.folder / "blobs")
    need_driver()
    from bridge.jobs.database.blobs import Blobs  # noqa: PLC0415

    return Blobs(config.journal)
