"""A manifest's other columns as one compact JSON object."""

import base64
import json
import math
from collections.abc import Iterable, Mapping
from datetime import date, time, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import PurePath
from uuid import UUID

import orjson

from pipeline.config.sections import SourceConfig
from pipeline.redaction.addresses import public_text

_OPTIONS = orjson.OPT_NON_STR_KEYS | orjson.OPT_SERIALIZE_NUMPY
_MISSING = frozenset({"NaTType", "NAType"})
"""What pandas has for a missing value, besides NaN."""
BYTES_LIMIT = 1024
"""Longer binary values are left out: they are embedded files and no description of one."""


_GROWTH = 6
"""Bytes that a character, or a byte of JSON, takes in `to_json` at most: `\\u0001`, and 1e15 in full."""


def safe_size(config: SourceConfig, names: Iterable[str] = ()) -> int:
    """Characters of a row, or bytes of its JSON, up to which `to_json` stays within `source.max_record_kb`."""
    return config.max_record_kb * 1024 // _GROWTH - sum(len(name) + 8 for name in names)


def record_flaw(record: str | None, config: SourceConfig) -> str | None:
    """What is wrong with other columns that take too much as JSON."""
    limit = config.max_record_kb * 1024
    if record is None or 4 * len(record) <= limit or (size := len(record.encode())) <= limit:
        return None
    return (
        f"its other columns take {size / 1024:,.0f} KiB, and source.max_record_kb is {config.max_record_kb:,} "
        "(`source.max_record_kb=N` allows more)"
    )


def to_json(values: Mapping[str, object]) -> str | None:
    """Dates as ISO 8601, Decimal as text, durations in seconds, bytes as base64; NaN, infinity, NaT and NA as null.

    Values of NumPy and pandas are those of Python. Addresses are without login and without the parameters that open or
    sign them. Returns None for no values.
    """
    if not values:
        return None
    try:
        text = orjson.dumps(
            values, default=_default, option=orjson.OPT_NON_STR_KEYS | orjson.OPT_SERIALIZE_NUMPY
        ).decode()
    except orjson.JSONEncodeError:
        # Integers beyond 64 bits and lone surrogates, which the standard library can write.
        text = json.dumps(_plain(values), separators=(",", ":"), allow_nan=False)
    return public_text(text)


def _default(value: object) -> object:
    found: object
    if isinstance(value, bytes):
        found = base64.b64encode(value).decode("ascii") if len(value) <= BYTES_LIMIT else None
    elif isinstance(value, timedelta):
        found = value.total_seconds()
    elif type(value).__name__ in _MISSING:
        found = None
    elif isinstance(value, (date, time)):  # pandas has a datetime of its own
        found = value.isoformat()
    elif isinstance(value, Enum):
        found = value.value
    elif isinstance(value, (Decimal, UUID, PurePath)):
        found = str(value)
    else:
        to_list = getattr(value, "tolist", None)  # of an array that is not in one piece, and of anything like one
        found = to_list() if callable(to_list) else repr(value)
    return found


def _plain(value: object) -> object:
    if value is None or isinstance(value, (str, int)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    plain = _default(value)
    return plain if isinstance(plain, str) else _plain(plain)
