"""Arrow schemas: of a new output directory, and as a ledger stores one."""

from collections.abc import Collection

import pyarrow as pa

from pipeline.store.columns import COLUMNS, Column


def schema(
    *,
    choices: int = 1,
    logprobs: bool = False,
    labels: pa.DataType | None = None,
    has_several: bool = False,
    given: Collection[str] = (),
) -> pa.Schema:
    """The Arrow schema of a new output directory: for requests with this number of choices, and labels of this type.

    `has_several` says that records have several images, `given` which columns the kind of endpoint adds.
    """
    left_out = {
        column.name
        for column in COLUMNS
        if (column.only_with_choices and choices == 1)
        or (column.only_with_logprobs and not logprobs)
        or (column.only_with_labels and labels is None)
        or (column.only_with_several and not has_several)
        or (column.only_where_given and column.name not in given)
    }
    columns = [column for column in COLUMNS if column.name not in left_out]
    types = [labels if column.only_with_labels else column.type for column in columns]
    fields = [pa.field(column.name, kind) for column, kind in zip(columns, types, strict=True)]
    return pa.schema(fields, metadata={"vision_batch": "1"})


def stored_schema(stored: bytes | None) -> pa.Schema | None:
    """A schema as a ledger stores it; None where it cannot be read, or has a column that is not in the table."""
    try:
        found: pa.Schema = pa.ipc.read_schema(pa.py_buffer(stored or b""))
        types = {field.name: field.type for field in found if field.nullable}  # names are decoded here
    except (pa.ArrowException, OSError, ValueError):
        return None
    known = {column.name: column for column in COLUMNS}
    required = {column.name for column in COLUMNS if column.is_essential and not _is_optional(column)} | {"asked_at"}
    is_ours = all(name in known and _fits(known[name], kind) for name, kind in types.items())
    return found if is_ours and required <= types.keys() and len(types) == len(found) else None


def _is_optional(column: Column) -> bool:
    return column.only_with_choices or column.only_with_labels or column.only_where_given


def _fits(column: Column, kind: pa.DataType) -> bool:
    """Whether a stored type is the column's; that of labels is any that a schema leads to."""
    if not column.only_with_labels:
        return bool(column.type == kind)
    return bool(pa.types.is_string(kind) or (pa.types.is_struct(kind) and kind.num_fields > 0))
