"""Manifests at an address: copied into a temporary file when they are first read, and read from there."""

import os
import tempfile
import weakref
from collections.abc import Iterator, Sequence
from typing import Any, Final

from pipeline.cloud.objects import copy_object
from pipeline.cloud.stores import ObjectAddress
from pipeline.config.sections import SourceConfig
from pipeline.errors import InputError, ResourceError
from pipeline.http.download import download
from pipeline.records import Failure, ImageRecord
from pipeline.sources.formats import Format
from pipeline.sources.lines import opened
from pipeline.sources.manifest import ManifestSource
from pipeline.sources.naming import public_address, shown
from pipeline.sources.places import below_address, check_foreign

MOST_BYTES: Final = 8 << 30
"""Of a manifest, or of a Parquet file with images inside: it takes so much room on this machine's disk."""


class RemoteManifest(ManifestSource):
    """A manifest behind `http(s)://`, or in a bucket. It never names files of this machine."""

    def __init__(self, address: str, config: SourceConfig, kind: Format, name: str | None = None) -> None:
        """`name` is what people call it, where that is not its address."""
        label, name = name, name or public_address(address)
        super().__init__(
            address, config, kind.reader, opened, name=name, unit=kind.unit, blocks=kind.blocks,
            locate=below_address(address), label=label,
        )  # fmt: skip
        self._address, self._source_config = address, config
        self._bucket = ObjectAddress.of(address)
        self._is_here = False

    def ids(self) -> Iterator[str] | None:
        self._fetch()
        return super().ids()

    def records(self) -> Iterator[ImageRecord]:
        self._fetch()
        return super().records()

    def _look_at(self, images: Sequence[str]) -> None:
        super()._look_at(images)
        for image in images:
            check_foreign(image)

    def _fetch(self) -> None:
        """Once; the copy is gone with this source.

        Raises InputError where it cannot be fetched, ResourceError where the disk does not take it.
        """
        if self._is_here:
            return
        path = self._address if self._bucket else self._address.partition("#")[0].partition("?")[0]
        try:
            copy = tempfile.NamedTemporaryFile(suffix=os.path.splitext(path)[1])  # noqa: PTH122, SIM115 - it stays open
            weakref.finalize(self, copy.close)
            self._copy_into(copy)
            copy.flush()
        except OSError as error:
            raise ResourceError(f"{shown(self.name)}: cannot be copied to {tempfile.gettempdir()}: {error}") from None
        self._is_here, self._path = True, copy.name

    def _copy_into(self, copy: Any) -> None:  # noqa: ANN401 - a temporary file
        if self._bucket is None:
            failure = download(self._address, copy, MOST_BYTES, self._source_config)
            if isinstance(failure, Failure):
                raise InputError(f"{shown(self.name)}: cannot be fetched: {failure.message}")
        elif (size := copy_object(self._bucket, copy, MOST_BYTES)) > MOST_BYTES:
            raise InputError(f"{shown(self.name)}: {size:,} bytes are more than {MOST_BYTES:,}; download it in parts")
