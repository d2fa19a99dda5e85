"""One TOML file of the catalogue -> its families and hosts. A user's own file is read like ours."""

import tomllib
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

from pipeline.catalogue.facts import Batch, DatedRule, Family, Host, Limits, Source
from pipeline.errors import InputError
from pipeline.policy.tokens import TokenRule, UnknownRule, token_rule

FAMILY_KEYS = {"name", "match", "max_tokens_field", "rule"}
RULE_KEYS = {"name", "kind", "params", "valid_from", "valid_to", "hosts", "source", "evidence", "note"}


def read_document(file: Path) -> dict[str, Any]:
    """Raises InputError that names the file."""
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{file}: {error}") from None


def read_families(file: Path) -> tuple[Family, ...]:
    """The families of one file, in its order. Raises InputError that names the file, the family and the key."""
    document = read_document(file)
    found = []
    for entry in document.get("family", []):
        try:
            found.append(_family(entry, document))
        except (KeyError, TypeError, ValueError) as error:
            what = f"{error} is missing" if isinstance(error, KeyError) else str(error)
            raise InputError(f"{file}: family {entry.get('name', '?')!r}: {what}") from None
    return tuple(found)


def read_hosts(file: Path) -> tuple[Host, ...]:
    document = read_document(file)
    return tuple(
        Host(entry["name"], tuple(entry["match"]), _limits({**entry["limits"], "source": entry["source"]}, document))
        for entry in document.get("host", [])
    )


def read_unknown(file: Path) -> UnknownRule:
    """The bounded rule of models that nobody has described."""
    entry = read_document(file)["unknown"]
    return UnknownRule(entry["name"], tuple(_rule(rule) for rule in entry["rule"]), entry["max_side"])


def _family(entry: dict[str, Any], document: dict[str, Any]) -> Family:
    _only(entry, FAMILY_KEYS)
    rules = tuple(_dated(rule, document) for rule in entry.get("rule", []))
    return Family(
        name=entry["name"],
        match=tuple(pattern.lower() for pattern in entry["match"]),
        max_tokens_field=entry.get("max_tokens_field", "max_tokens"),
        source=document.get("source", ""),
        checked_on=document["checked_on"],
        rules=rules,
        limits=_limits(document.get("limits", {}), document),
        json_schema=document.get("api", {}).get("json_schema", "unknown"),
        batch=_batch(document.get("batch"), document),
    )


def _dated(entry: dict[str, Any], document: dict[str, Any]) -> DatedRule:
    _only(entry, RULE_KEYS)
    source = _source(entry.get("source"), document)
    if source is None:
        raise ValueError(f"rule {entry['name']!r} names no source of the file")
    return DatedRule(
        rule=_rule(entry),
        source=source,
        evidence=entry.get("evidence", "unverified"),
        valid_from=entry.get("valid_from"),
        valid_to=entry.get("valid_to"),
        hosts=tuple(entry.get("hosts", [])),
        note=entry.get("note", ""),
    )


def _rule(entry: dict[str, Any]) -> TokenRule:
    return token_rule(entry["kind"], entry["name"], entry.get("params", {}))


def _limits(entry: dict[str, Any], document: dict[str, Any]) -> Limits:
    plain = {key: value for key, value in entry.items() if key not in {"formats", "source", "evidence"}}
    formats = tuple(entry.get("formats", []))
    return Limits(**plain, formats=formats, source=_source(entry.get("source"), document))


def _batch(entry: dict[str, Any] | None, document: dict[str, Any]) -> Batch | None:
    if entry is None:
        return None
    plain = {key: value for key, value in entry.items() if key not in {"discount", "source"}}
    discount = Decimal(str(entry["discount"]))
    return Batch(discount=discount, **plain, source=_source(entry.get("source"), document))


def _source(key: str | None, document: dict[str, Any]) -> Source | None:
    entry = document.get("sources", {}).get(key)
    return None if entry is None else Source(entry["title"], entry["url"], entry["checked_on"])


def _only(entry: Mapping[str, object], known: set[str]) -> None:
    for key in entry:
        if key not in known:
            raise ValueError(f"unknown key {key!r}; known: {', '.join(sorted(known))}")
