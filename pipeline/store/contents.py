"""Whether the values in a ledger are what a run writes. SQLite checks its pages, and not the values on them."""

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Any

import orjson
import pyarrow as pa

from pipeline.errors import ResourceError, VisionBatchError
from pipeline.store.ledger.errors import damaged
from pipeline.store.ledger.protocol import CONFIG_META, NO, REHEARSAL_META, YES, Ledger
from pipeline.store.rows import table_of
from pipeline.store.salvage.rows import is_answer
from pipeline.store.schemas import stored_schema
from pipeline.store.states import state_of

_JSON_META = ("identity", "lease", "lost_parts")


@contextmanager
def decoding(ledger: Ledger) -> Iterator[None]:
    """Raise DamagedLedgerError for an error that comes from values which no run writes; any other error is a bug."""
    try:
        yield
    except VisionBatchError:
        raise
    except Exception as error:
        if (why := what_is_wrong(ledger)) is not None:
            raise damaged(ledger.path, why) from error
        raise


def columns_of(ledger: Ledger) -> pa.Schema:
    """The schema that OUT was made with. Raises ValueError where the stored one cannot be."""
    columns = stored_schema(ledger.meta("schema"))
    if columns is None:
        raise ValueError("the stored columns are not ours")
    return columns


def check_declared(ledger: Ledger) -> str | None:
    """The hash of OUT's configuration. Raises ValueError where it is none of those that OUT was asked with."""
    declared = ledger.meta("config_hash")
    if declared is None:
        return None
    if (name := CONFIG_META + declared.decode()) in (known := ledger.meta_names(CONFIG_META)) or not known:
        return declared.decode()
    raise ValueError(f"{name!r} is not stored")


def is_rehearsal(ledger: Ledger) -> bool | None:
    """Whether the answers are the emulator's; None where nothing is stored. Raises ValueError at a damaged value."""
    stored = ledger.meta(REHEARSAL_META)
    if stored in {YES, NO, None}:
        return None if stored is None else stored == YES
    raise ValueError("whether its answers are the emulator's cannot be read")


def what_is_wrong(ledger: Ledger) -> str | None:
    """A value in the ledger that no run writes; None where all values can be read."""
    for name, check in _CHECKS.items():
        try:
            for _ in check(ledger):
                pass
        except ResourceError:
            return f"{name} cannot be read"
        except Exception as error:  # noqa: BLE001 - a damaged value can lead to any error
            return f"{name}: {type(error).__name__}: {error}"
    return None


def _check_answers(ledger: Ledger) -> Iterator[object]:
    columns = columns_of(ledger)
    for record in ledger.unsealed():
        if not is_answer(record.key, record.row):
            raise ValueError("an answer is not that of its record")
        yield table_of([record.row], columns)


def _check_meta(ledger: Ledger) -> Iterator[object]:
    for name in (*_JSON_META, *ledger.meta_names("mark ")):
        yield orjson.loads(ledger.meta(name) or b"{}")
    yield int(ledger.meta("parts") or b"0")
    yield check_declared(ledger)
    yield is_rehearsal(ledger)


_CHECKS: dict[str, Callable[[Ledger], Iterator[Any] | Collection[Any]]] = {
    "its columns": columns_of,
    "its settings": _check_meta,
    "its sums by state": lambda ledger: [state_of(code) for code in ledger.states()],
    "its totals": lambda ledger: [value + 0 for value in ledger.counts().values()],
    "its records": lambda ledger: [state_of(code) for code in ledger.stored_states()],
    "its bills": lambda ledger: [orjson.loads(bill.bill)["attempts"] + 0 for bill in ledger.bills()],
    "its answers": _check_answers,
}
