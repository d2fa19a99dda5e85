"""A manifest's other columns as one compact JSON object."""

import base64
import json
import math
from collections.abc import Iterable, Mapping
from datetime import date, time, timedelta
from decimal import Decimal

import orjson

from pipeline.config.sections import SourceConfig
from pipeline.redaction.addresses import public_text

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
    """Dates as ISO 8601, Decimal as text, durations in seconds, bytes as base64, NaN and infinity as null.

    Addresses are without login and without the parameters that open or sign them. Returns None for no values.
    """
    if not values:
        return None
    try:
        text = orjson.dumps(values, default=_default, option=orjson.OPT_NON_STR_KEYS).decode()
    except orjson.JSONEncodeError:
        # Integers beyond 64 bits and lone surrogates, which the standard library can write.
        text = json.dumps(_plain(values), separators=(",", ":"), allow_nan=False)
    return public_text(text)


def _default(value: object) -> object:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii") if len(value) <= BYTES_LIMIT else None
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, Decimal):
        return str(value)
    return repr(value)


def _plain(value: object) -> object:
    if value is None or isinstance(value, (str, int)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value.isoformat() if isinstance(value, (date, time)) else _default(value)
