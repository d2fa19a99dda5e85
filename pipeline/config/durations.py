"""Durations as people and headers write them."""

import math
import re
from typing import Final

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(h|ms|m|s|us|µs|μs|ns)")


_UNIT_S: Final = {
    "h": 3600.0,
    "m": 60.0,
    "s": 1.0,
    "ms": 1e-3,
    "us": 1e-6,
    "µs": 1e-6,
    "μs": 1e-6,
    "ns": 1e-9,
}


def duration_s(text: str) -> float | None:
    """Seconds of a Go duration (`6m0s`, `2m59.56s`, `12ms`); None where the text is none."""
    text = text.strip()
    parts = _DURATION.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        return None
    lasts_s = sum(float(number) * _UNIT_S[unit] for number, unit in parts)
    return lasts_s if math.isfinite(lasts_s) else None
