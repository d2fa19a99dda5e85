"""The text of a row: its caption, or what a template makes of it."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson
import pyarrow as pa

from pipeline.errors import InputError
from pipeline.run.rendering import compiled, is_template

_LISTED: Final = 20
_BREAKS: Final = str.maketrans(dict.fromkeys((*range(32), 127, 0x85, 0x2028, 0x2029, 0xFEFF), " "))


class Captions:
    """Makes the texts of one export."""

    def __init__(self, template: str | None, schema: pa.Schema) -> None:
        """Raises InputError where the template is none."""
        if template is not None and not is_template(template):
            raise InputError(
                f"`template=`: {template!r} names no column, so that all texts would be the same; write "
                "{{ caption }} where the caption belongs"
            )
        self._render = None if template is None else compiled("template=", template)
        self.columns: Sequence[str] = ["id", "caption"] if template is None else [*schema.names]
        """What has to be read of each row."""

    def __call__(self, row: Mapping[str, Any]) -> str:
        """The text of a row; empty where it has none. Raises InputError that names the row."""
        if self._render is None:
            return str(row["caption"] or "")
        if row["caption"] is None and row.get("labels") is None:
            return ""
        values = _values(row)
        try:
            return self._render(values)
        except Exception as error:  # noqa: BLE001 - a template may do what an expression of Python may
            known = ", ".join(list(values)[:_LISTED]) + (" ..." if len(values) > _LISTED else "")
            raise InputError(
                f"`template=`: no text can be made of the row {row['id']!r}: {error}; it has: {known}. Correct the "
                'template, or write {{ NAME | default("...") }} for a column that may be missing'
            ) from None


def _values(row: Mapping[str, Any]) -> dict[str, Any]:
    """What a template may name: the row's columns, those of the manifest behind them, and all of these as `record`."""
    record = row.get("record")
    own: dict[str, Any] = orjson.loads(record) if isinstance(record, str) else {}
    return {**own, **row, "record": own, "caption": row["caption"] or ""}


def one_line(text: str) -> str:
    """The text on one line: line breaks and other controls are blanks, and several blanks are one."""
    return " ".join(text.translate(_BREAKS).split())
