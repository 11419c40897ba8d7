# SPDX-License-Identifier: AGPL-3.0-or-later
"""Which object store an installation uses."""

from amana.config import Config
from amana.storage.blobs import BlobStore
from amana.storage.folder import FolderStore


def make_blobs(config: Config) -> BlobStore:
    """Build the object store that the configuration names."""
    objects = config.objects
    if objects.kind == "folder":
        return FolderStore(config.data / "objects")
    # Loading boto3 takes longer than the rest of the program.
    from amana.storage.s3 import S3Settings, S3Store

    return S3Store(
        S3Settings(
            endpoint_url=objects.endpoint_url,
            bucket=objects.bucket,
            region=objects.region,
            access_key=objects.access_key,
            secret_key=objects.secret_key,
        )
    )
