"""Turns the keywords of `pipeline.run` and the other functions into a configuration."""

from functools import cache
from pathlib import Path
from typing import Any

from pipeline.config.loading import load_config
from pipeline.config.references import argument, override
from pipeline.config.run_config import RunConfig, settings
from pipeline.config.sections import Settings
from pipeline.errors import InputError


@cache
def keywords() -> dict[str, str]:
    """The key of each keyword: `{"rpm": "limits.rpm", ...}`."""
    return {one.setting.keyword: one.key for one in settings() if one.setting.keyword}


def resolve(config: str | Path | RunConfig | None, given: Settings) -> RunConfig:
    """Joins a configuration with keywords and overrides. Raises InputError for a setting that does not exist."""
    named: dict[str, Any] = {**given}
    overrides: dict[str, Any] = dict(named.pop("overrides", None) or {})
    known = keywords()
    unknown = [name for name in named if name not in known]
    if unknown:
        raise InputError(f"unknown setting {unknown[0]!r}; known: {', '.join(known)}, and any key in overrides={{...}}")
    given_as = {key: override(key) for key in overrides}
    stated = {name: value for name, value in named.items() if value is not None}
    overrides |= {known[name]: value for name, value in stated.items()}
    given_as |= {known[name]: argument(name) for name in stated}
    return load_config(config, _with_endpoints(overrides, given_as), given_as=given_as)


def _with_endpoints(overrides: dict[str, Any], given_as: dict[str, str]) -> dict[str, Any]:
    """An address that is given replaces all endpoints of the file; several addresses are several endpoints."""
    addresses = overrides.get("endpoint.base_url")
    if addresses is None:
        return overrides
    several = [addresses] if isinstance(addresses, str) else [*addresses]
    endpoints = [{"base_url": address} for address in several] if len(several) > 1 else []
    if endpoints:
        given_as["endpoints"] = argument("base_url")
    shared = {"endpoint.base_url": several[0] if several else None}
    return {"endpoints": endpoints, **overrides, **shared, **({"endpoints": endpoints} if endpoints else {})}
