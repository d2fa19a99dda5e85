"""How far sources need no second look: small values in the ledger, which a run deletes when it forgets a record."""

from collections.abc import Mapping
from typing import Any

import orjson

from pipeline.store.ledger.protocol import Ledger


class Marks:
    """The marks of one OUT. A mark lies where all records of a source below it have rows."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._is_forgotten = False

    def mark(self, name: str) -> dict[str, Any]:
        """What `set_mark` stored under this name; empty where there is nothing."""
        stored: dict[str, Any] = orjson.loads(self._ledger.meta(f"mark {name}") or b"{}")
        return stored

    def set_mark(self, name: str, mark: Mapping[str, object]) -> None:
        """Store a mark, unless this run has deleted them all."""
        if not self._is_forgotten:
            self._ledger.set_meta({f"mark {name}": orjson.dumps(mark)})

    def forget_all(self) -> None:
        """Make the next run look at every record of its source. This run stores no marks any more."""
        if not self._is_forgotten:
            self._is_forgotten = True
            self._ledger.set_meta(dict.fromkeys(self._ledger.meta_names("mark "), b"{}"))
