"""Labels as columns of their own: `labels.x` for each field, `labels.x.y` for the field of a field. Lists stay."""

from collections.abc import Iterator, Sequence

import pyarrow as pa

LABELS = "labels"


def stored_name(name: str) -> str:
    """The column that holds this one: `labels` for `labels.x`."""
    return LABELS if name.startswith(f"{LABELS}.") else name


def flat_names(columns: Sequence[str], schema: pa.Schema) -> list[str]:
    """The columns that these are, once they are flat; the fields of a struct for its own name."""
    known = [name for field in schema for name in _names(field)]
    return list(dict.fromkeys(name for column in columns for name in known if _is_within(name, column)))


def _is_within(name: str, column: str) -> bool:
    return name == column or (stored_name(column) == LABELS and name.startswith(f"{column}."))


def _names(field: pa.Field, prefix: str = "") -> Iterator[str]:
    name = prefix + field.name
    if _is_labels(name) and pa.types.is_struct(field.type):
        for below in field.type:
            yield from _names(below, f"{name}.")
    else:
        yield name


def _is_labels(name: str) -> bool:
    return stored_name(name) == LABELS


def flattened(batch: pa.RecordBatch, names: Sequence[str]) -> pa.RecordBatch:
    """The same rows with these columns."""
    found: dict[str, pa.Array] = {}
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        found |= dict(_columns(name, column))
    return pa.record_batch([found[name] for name in names], names=list(names))


def _columns(name: str, column: pa.Array) -> Iterator[tuple[str, pa.Array]]:
    if not (_is_labels(name) and pa.types.is_struct(column.type)):
        yield name, column
        return
    for field, below in zip(column.type, column.flatten(), strict=True):
        yield from _columns(f"{name}.{field.name}", below)
