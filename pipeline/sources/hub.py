"""A dataset of the Hugging Face hub: the rows of its Parquet files, or else its images."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from pipeline.config.sections import SourceConfig
from pipeline.http.hub import HubDataset
from pipeline.locations import ImageUrl
from pipeline.records import ImageRecord
from pipeline.sources.base import check_ids, nothing_in
from pipeline.sources.elsewhere import RemoteManifest
from pipeline.sources.formats import FORMATS
from pipeline.sources.hub_listing import hub_name, hub_paths
from pipeline.sources.naming import MEDIA_SUFFIXES, check_videos, identify, names_document, shown

_PARQUET: Final = ".parquet"


class HubSource:
    """Lists the files in the hub's order. A Parquet file is copied to this machine while its rows are read: one at a
    time, and none of them before the run for a check of ids.
    """

    skipped = 0
    is_manifest = False
    has_several = False
    grouped_by = None

    def __init__(self, dataset: HubDataset, config: SourceConfig) -> None:
        self.name = hub_name(dataset)
        self.has_documents = False
        self._dataset, self._config = dataset, config
        self._has_tables: bool | None = None

    def check(self) -> int | None:
        return check_ids([self])

    def ids(self) -> Iterator[str] | None:
        return None if self._holds_tables() else (record.id for record in self._images())

    def records(self) -> Iterator[ImageRecord]:
        return self._rows() if self._holds_tables() else self._images()

    def place(self, record: ImageRecord) -> str:
        return repr(record.image)

    def _holds_tables(self) -> bool:
        if self._has_tables is None:
            self._has_tables = any(path.endswith(_PARQUET) for path in hub_paths(self._dataset, self._config))
        return self._has_tables

    def _rows(self) -> Iterator[ImageRecord]:
        for path in hub_paths(self._dataset, self._config):
            if path.endswith(_PARQUET) and self._holds(path):
                name = self._dataset.named(path)
                kind = FORMATS[_PARQUET]
                for record in RemoteManifest(self._dataset.resolved(path), self._config, kind, name).records():
                    own = record.id if record.id.startswith(name) else f"{name}/{record.id}"
                    yield replace(record, id=identify(own))

    def _images(self) -> Iterator[ImageRecord]:
        is_empty = True
        for path in hub_paths(self._dataset, self._config):
            if path.lower().endswith(self._config.extensions or MEDIA_SUFFIXES):
                is_empty, name = False, self._dataset.named(path)
                if not self._holds(identify(name)):
                    continue
                check_videos((path,), self.name)
                self.has_documents = self.has_documents or names_document(path)
                where = ImageUrl(shown(name), self._dataset.resolved(path), is_trusted=True)
                yield ImageRecord(identify(name), (where,))
        if is_empty:
            raise nothing_in(f"{shown(self.name)}: no Parquet files and no images here")

    def _holds(self, name: str) -> bool:
        """Whether a file of records, or the record of an image, belongs to this shard."""
        shard = self._config.own_shard
        return shard is None or shard.holds(name)
