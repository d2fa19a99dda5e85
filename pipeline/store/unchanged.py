"""Files that are only newer: `--refresh-changed` does not pay for bytes that the row was made of."""

from collections import OrderedDict
from pathlib import Path
from typing import Final

from pipeline.records import PreparedRequest, record_key
from pipeline.store import parquet
from pipeline.store.columns import KEY_NAMES
from pipeline.store.ledger.protocol import Ledger
from pipeline.store.selection import Selection

_PARTS: Final = 2
"""Whose hashes are held: rows follow each other roughly as their records do."""


class Unchanged:
    """Finds the rows of one OUT that were made of the same bytes."""

    def __init__(self, ledger: Ledger, selection: Selection, data: Path) -> None:
        self._ledger, self._selection, self._data = ledger, selection, data
        self._hashes: OrderedDict[int, dict[bytes, str]] = OrderedDict()

    def is_only_newer(self, request: PreparedRequest) -> bool:
        """Whether nothing but the time of its file is another than when its row was written.

        The row may answer another request, as `on_config_change=keep` leaves it. Of several images it has the hash of
        the first one alone: then the whole request is compared.
        """
        key = record_key(request.record.id, request.prompt_name)
        stored = self._ledger.find([key]).get(key)
        if stored is None or self._selection.asks_again(stored) or not request.image_facts:
            return False
        leaders = self._ledger.leaders(request.request_sha256)
        if len(request.image_facts) > 1 and all(one.key != key for one in leaders):
            return False
        return self._sha256_of(key) == request.image_facts[0].sha256

    def _sha256_of(self, key: bytes) -> str | None:
        """Of the first image of a sealed row."""
        part = self._ledger.parts_of([key]).get(key)
        if part is None:
            return None
        if part not in self._hashes:
            names = [*KEY_NAMES, "sha256"]
            rows = parquet.read_columns(self._data, part, names)
            self._hashes[part] = {record_key(row["id"], row["prompt_name"]): row["sha256"] for row in rows}
            while len(self._hashes) > _PARTS:
                self._hashes.popitem(last=False)
        return self._hashes[part].get(key)
