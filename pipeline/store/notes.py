"""Small facts that a run leaves for later runs on OUT."""

from collections.abc import Mapping
from typing import Any

import orjson

from pipeline.store.ledger.errors import damaged
from pipeline.store.ledger.protocol import Ledger


class Notes:
    """Kept in the ledger, by name. A rebuild loses them."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def of(self, name: str) -> dict[str, Any]:
        """Empty where no run has left one. Raises DamagedLedgerError."""
        try:
            found = orjson.loads(self._ledger.meta(name) or b"{}")
        except ValueError as error:
            raise damaged(self._ledger.path, error) from None
        if not isinstance(found, dict):
            raise damaged(self._ledger.path, f"the note {name!r} is none")
        return found

    def put(self, name: str, values: Mapping[str, object]) -> None:
        """In place of the one before."""
        self._ledger.set_meta({name: orjson.dumps(values)})
