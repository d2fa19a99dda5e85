"""Manifests at an address: copied into a temporary file when they are first read, and read from there."""

from collections.abc import Iterator, Sequence

from pipeline.config.sections import SourceConfig
from pipeline.records import ImageRecord
from pipeline.sources.copies import Copy
from pipeline.sources.formats import Format
from pipeline.sources.lines import opened
from pipeline.sources.manifest import ManifestSource
from pipeline.sources.naming import public_address
from pipeline.sources.places import below_address, check_foreign


class RemoteManifest(ManifestSource):
    """A manifest behind `http(s)://`, or in a bucket. It never names files of this machine."""

    def __init__(self, address: str, config: SourceConfig, kind: Format, name: str | None = None) -> None:
        """`name` is what people call it, where that is not its address."""
        label, name = name, name or public_address(address)
        super().__init__(
            address, config, kind.reader, opened, name=name, unit=kind.unit, blocks=kind.blocks,
            locate=below_address(address), label=label,
        )  # fmt: skip
        self.address = address
        self._source_config = config
        self._copy: Copy | None = None

    def ids(self) -> Iterator[str] | None:
        self._fetch()
        return super().ids()

    def records(self) -> Iterator[ImageRecord]:
        self._fetch()
        return super().records()

    def _look_at(self, images: Sequence[str]) -> None:
        super()._look_at(images)
        for image in images:
            check_foreign(image, self.address)

    def _fetch(self) -> None:
        """Once; the copy is gone with this source. Raises InputError and ResourceError."""
        if self._copy is None:
            self._copy = Copy(self.address, self._source_config, self.name)
            self._path = self._copy.path
