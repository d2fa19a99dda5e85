"""The types of settings: bounds and checks that several settings share."""

import json
import re
from decimal import Decimal
from typing import Annotated, Any, Literal

import orjson
from pydantic import BeforeValidator, Field, WrapValidator

from pipeline.config.durations import duration_s

Detail = Literal["low", "high", "auto", "original"]


def host_name(name: str) -> str:
    if re.fullmatch(r"[\w-]+(\.[\w-]+)*", name) is None:
        raise ValueError("not a host's name: write it without https:// and path, for example siliconflow.cn")
    return name.lower()


def variable_name(name: str) -> str:
    if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name) is None:
        raise ValueError(
            "not the name of an environment variable. If it is the key itself: put it into a variable, "
            "for example OPENAI_API_KEY, and name that"
        )
    return name


MOST_CONCURRENCY = 65_536
"""More connections than one machine has ports to one address; a larger number means this one."""


# Bounds far beyond any use, below which no arithmetic, timer or ledger column overflows.
Seconds = Annotated[float, Field(gt=0, le=1e9)]
Megabytes = Annotated[float, Field(gt=0, le=1e9)]
Count = Annotated[int, Field(gt=0, le=10**12)]
PerMinute = Annotated[float, Field(ge=1e-3, le=1e12)]
Dollars = Annotated[Decimal, Field(ge=0, le=10**9, decimal_places=18)]
PositiveDollars = Annotated[Decimal, Field(gt=0, le=10**9, decimal_places=9)]


def _concurrency(value: object) -> object:
    if value == "auto":
        return value
    if isinstance(value, int) and not isinstance(value, bool) and value >= 1:
        return min(value, MOST_CONCURRENCY)
    raise ValueError("write auto, or a number of at least 1")


def sendable(extra: dict[str, Any]) -> dict[str, Any]:
    try:
        json.dumps(extra, allow_nan=False)
        orjson.dumps(extra)  # writes it into OUT, and has integers of 64 bits
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"not possible in JSON: {error}") from None
    return extra


MessageName = Annotated[str, Field(pattern=r"^[^\s<|\\/>]{1,64}$")]
"""OpenAI, API reference: no blanks and none of `<|\\/>`, up to 64 characters."""


def page_numbers(value: object) -> object:
    """Page numbers and ranges as one text, also where they are a list. Raises ValueError for anything else."""
    text = ",".join(map(str, value)) if isinstance(value, list | tuple) else value
    if isinstance(text, str) and re.fullmatch(r"\d{1,6}(-\d{1,6})?(,\d{1,6}(-\d{1,6})?)*", text) is None:
        raise ValueError("write page numbers from 0 and ranges of them, for example 0-2,5")
    return text


def labels_schema(value: object) -> object:
    """A schema as JSON text, whichever way it is named: OUT holds the schema itself, and no path."""
    if value is None:
        return None
    from pipeline.labels.loading import schema_text  # noqa: PLC0415 - jsonschema takes a tenth of a second to import

    return schema_text(value)


Concurrency = Annotated[int | Literal["auto"], WrapValidator(lambda value, _: _concurrency(value))]


def _seconds(value: object) -> object:
    if not isinstance(value, str):
        return value
    lasts_s = duration_s(value)
    if lasts_s is None:
        raise ValueError("no duration; write for example 90s, 45m, 4h or 1h30m")
    return lasts_s


Duration = Annotated[float, BeforeValidator(_seconds), Field(gt=0, le=1e9)]
"""Seconds, or a text such as `4h`."""
