"""What lies at an address, as a temporary file of this machine."""

import hashlib
import os
import tempfile
import weakref
from functools import partial
from typing import Any, Final

from pipeline.cloud.objects import copy_object
from pipeline.cloud.stores import ObjectAddress
from pipeline.config.sections import SourceConfig
from pipeline.errors import InputError, ResourceError
from pipeline.http.download import download
from pipeline.records import Failure
from pipeline.sources.naming import shown

MOST_BYTES: Final = 8 << 30
"""Of a manifest, or of a Parquet file with images inside: it takes so much room on this machine's disk."""


class Copy:
    """A temporary file with what lies at an address. It is gone when nothing refers to this object any more.

    Its time stands for its bytes: to `--refresh-changed` the same bytes are the same file, whenever they were copied.
    """

    def __init__(self, address: str, config: SourceConfig, name: str) -> None:
        """`name` is for messages.

        Raises InputError where it cannot be fetched, ResourceError where the disk does not take it.
        """
        bucket = ObjectAddress.of(address)
        path = address if bucket else address.partition("#")[0].partition("?")[0]
        try:
            file = tempfile.NamedTemporaryFile(suffix=os.path.splitext(path)[1])  # noqa: PTH122, SIM115 - it stays open
            weakref.finalize(self, file.close)
            self.path = file.name
            _copy_into(file, address, bucket, config, name)
            file.flush()
            os.utime(file.name, ns=(0, _digest(file)))
        except OSError as error:
            raise ResourceError(f"{shown(name)}: cannot be copied to {tempfile.gettempdir()}: {error}") from None


def _digest(file: Any) -> int:  # noqa: ANN401 - what `tempfile` makes
    """A time, in nanoseconds before 2007, that differs with the bytes of a file."""
    file.seek(0)
    found = hashlib.file_digest(file, partial(hashlib.blake2b, digest_size=8))
    return int.from_bytes(found.digest(), "big") >> 4


def _copy_into(
    copy: Any,  # noqa: ANN401 - as above
    address: str,
    bucket: ObjectAddress | None,
    config: SourceConfig,
    name: str,
) -> None:
    if bucket is None:
        failure = download(address, copy, MOST_BYTES, config)
        if isinstance(failure, Failure):
            raise InputError(f"{shown(name)}: cannot be fetched: {failure.message}")
    elif (size := copy_object(bucket, copy, MOST_BYTES)) > MOST_BYTES:
        raise InputError(f"{shown(name)}: {size:,} bytes are more than {MOST_BYTES:,}; download it in parts")
