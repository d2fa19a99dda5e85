"""What a hook may make of a row: the columns that it may change, and values that a part can hold."""

from collections.abc import Mapping

import pyarrow as pa

from pipeline.store.columns import COLUMNS
from pipeline.store.rows import encode_row, table_of

_BY_HOOK = {column.name for column in COLUMNS if column.by_hook}


def misfit(changes: Mapping[str, object], columns: pa.Schema) -> str | None:
    """Why a row of these columns cannot have these values, in words that follow on "the hook"; None where it can."""
    for name in changes:
        if name not in columns.names or name not in _BY_HOOK:
            why = "which no hook may change" if name in columns.names else "which is no column of this output directory"
            allowed = ", ".join(one for one in columns.names if one in _BY_HOOK)
            return f"returned another value of {name!r}, {why}; it may change {allowed}"
    for name, value in changes.items():
        field = columns.field(name)
        try:
            table_of([encode_row({name: value})], pa.schema([field]))
        except (pa.ArrowException, TypeError, ValueError):
            return f"returned a value of {name!r} (of type {type(value).__name__}) that is no {field.type}"
    return None
