"""What an output directory holds, as plain values."""

from collections import Counter
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from pipeline.errors import ErrorKind
from pipeline.records import Status
from pipeline.store.accounting import Totals
from pipeline.store.ledger.protocol import REHEARSAL_META, YES, Ledger
from pipeline.store.states import state_of
from pipeline.tokens.ratios import models_of


def states_of(ledger: Ledger) -> dict[tuple[Status, ErrorKind | None], int]:
    """The number of records with each status and kind of error."""
    return {state_of(code): records for code, records in ledger.states().items()}


def overview(ledger: Ledger) -> dict[str, object]:
    """The whole of OUT: `records` by status, `errors` by kind, `totals`, `models` by name, whether a `rehearsal`."""
    records: Counter[str] = Counter()
    errors: Counter[str] = Counter()
    for (status, kind), count in states_of(ledger).items():
        records[status] += count
        if kind is not None:
            errors[kind] += count
    counts = ledger.counts()
    return {
        "records": dict(records),
        "errors": dict(errors),
        "totals": Totals.of(counts).as_dict(),
        "models": models_of(counts),
        "rehearsal": ledger.meta(REHEARSAL_META) == YES,
    }


def added_overviews(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """Two overviews of output directories as one: numbers are added, also those of money, which is text."""
    found: dict[str, Any] = dict(one)
    for name, value in other.items():
        if isinstance(value, Mapping):
            found[name] = added_overviews(found.get(name, {}), value)
        elif isinstance(value, bool):
            found[name] = found.get(name, False) or value
        elif isinstance(value, str):
            found[name] = f"{Decimal(found.get(name, '0')) + Decimal(value):f}"
        else:
            found[name] = found.get(name, 0) + value
    return found
