"""Replaces references to settings and arguments by flags. Nothing outside the command line spells a flag."""

import re
import shlex
from functools import cache
from typing import Final

from pipeline.config.references import REFERENCE
from pipeline.config.run_config import settings

_ARGUMENTS: Final = (
    "caption_column", "caption_extension", "columns", "count", "drop_unreadable", "dry_run", "emulator",
    "exclude_flags", "fail_on_any", "if_exists", "images", "limit", "max_failed", "models", "on_config_change",
    "only", "out", "output", "output_tokens", "port", "probe", "prompt_name", "refresh", "relative_to",
    "retry_failed", "retry_kind", "retry_status", "retry_where", "reviews", "sample", "since", "state", "status",
    "template", "to", "where", "yes",
)  # fmt: skip
"""Arguments that are no settings. Their flags are their names with dashes."""
_FLAGS: Final = {"config": "-c", "sizes": "--size", **{name: f"--{name.replace('_', '-')}" for name in _ARGUMENTS}}
_SWITCHED: Final = frozenset({"True", "False"})


def with_flags(text: str) -> str:
    """The text as a user of the command line reads it: `limits.rpm` becomes --rpm, `sample=N` becomes --sample N."""
    return REFERENCE.sub(_flag, text)


@cache
def flags() -> dict[str, str]:
    """The flag of every argument and of every setting's keyword."""
    return {**_FLAGS, **{one.setting.keyword: one.flag for one in settings() if one.setting.keyword and one.flag}}


def _flag(found: re.Match[str]) -> str:
    if found["override"]:
        return f"--set {found['override']}"
    if found["argument"]:
        named = flags().get(found["argument"])
        return found[0] if named is None else _with_value(named, found["value"])
    key, value = found["key"], found["key_value"]
    known = _flags_of_keys()
    if key not in known:
        return found[0]
    flag = known[key]
    if flag is not None:
        return _with_value(flag, value)
    return key if value is None else f"--set {shlex.quote(f'{key}={value}')}"


def _with_value(flag: str, value: str | None) -> str:
    return flag if not value or value in _SWITCHED else f"{flag} {value}"


@cache
def _flags_of_keys() -> dict[str, str | None]:
    nested = {f"{one.key}.{name}": None for one in settings() for name in one.fields}
    return {**nested, **{one.key: one.flag for one in settings()}}
