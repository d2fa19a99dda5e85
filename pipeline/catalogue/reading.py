"""One TOML file of the catalogue -> its families and hosts. A user's own file is read like ours."""

import tomllib
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from decimal import Decimal
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from pipeline.catalogue.facts import Batch, DatedRule, Family, Host, Limits, Parameters, Reasoning, Source, TierPrice
from pipeline.catalogue.naming import named_or_matching, near_names
from pipeline.catalogue.tables import (
    BatchTable,
    Document,
    FamiliesFile,
    FamilyTable,
    File,
    HostsFile,
    KindTable,
    LimitsTable,
    RuleTable,
    TierTable,
    UnknownFile,
    checked,
)
from pipeline.errors import InputError
from pipeline.tokens import TokenRule, UnknownRule, token_rule

HERE = Path(__file__).parent
HOSTS, UNKNOWN = "hosts.toml", "unknown.toml"
"""The files beside this one that hold no families."""
TIERS = "openai.toml"
"""The file that holds service tiers."""
FILES = 32
"""Texts of files whose families are remembered."""


@cache
def families() -> tuple[Family, ...]:
    """Those that ship with the package."""
    files = (file for file in sorted(HERE.glob("*.toml")) if file.name not in {HOSTS, UNKNOWN})
    return tuple(family for file in files for family in read_families(file))


def read_families(file: Path) -> tuple[Family, ...]:
    """The families of one file, in its order. Raises InputError that names the file, the family and the key."""
    return _families(_text(file), file)


@lru_cache(FILES)
def _families(text: str, file: Path) -> tuple[Family, ...]:
    """By the text, so that a file that has changed is read anew and any other only once."""
    document = checked(_parsed(text, file), FamiliesFile, file)
    where = ""
    found: list[Family] = []
    try:
        build = _builder(document)
        for entry in document.family:
            where = f"family {entry.name!r}: "
            found.append(build(entry))
        where = ""
        _only_once([family.name for family in found])
    except ValueError as error:
        raise InputError(f"{file}: {where}{error}") from None
    return tuple(found)


def _only_once(names: list[str]) -> None:
    twice = next((name for name, times in Counter(names).items() if times > 1), None)
    if twice is not None:
        raise ValueError(f"family {twice!r} is declared twice; put all its [[family.rule]] under one entry")


@cache
def tiers() -> tuple[TierPrice, ...]:
    """The service tiers that ship with the package; the first that matches a model counts."""
    document = _document(FamiliesFile, HERE / TIERS)
    return tuple(_tier(entry, document) for entry in document.tier)


def _tier(entry: TierTable, document: Document) -> TierPrice:
    cached = entry.cached_usd_per_mtok
    return TierPrice(
        name=entry.name,
        provider=entry.provider,
        match=tuple(entry.match),
        source=_source(entry.source, document),
        share=None if entry.share is None else Decimal(str(entry.share)),
        input_usd_per_mtok=Decimal(entry.input_usd_per_mtok),
        output_usd_per_mtok=Decimal(entry.output_usd_per_mtok),
        cached_usd_per_mtok=None if cached is None else Decimal(cached),
    )


@cache
def hosts() -> tuple[Host, ...]:
    document = _document(HostsFile, HERE / HOSTS)
    return tuple(
        Host(
            entry.name,
            tuple(entry.match),
            _limits(entry.limits.model_copy(update={"source": entry.source, "note": entry.note}), document),
            entry.takes_addresses,
        )
        for entry in document.host
    )


@cache
def unknown_rule() -> UnknownRule:
    """The bounded rule of models without an entry."""
    entry = _document(UnknownFile, HERE / UNKNOWN).unknown
    return UnknownRule(entry.name, tuple(_rule(rule) for rule in entry.rule), entry.max_side)


def _document(kind: type[File], file: Path) -> File:
    return checked(_parsed(_text(file), file), kind, file)


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError(f"{file}: no such file") from None
    except OSError as error:
        raise InputError(f"{file}: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise InputError(f"{file}: not valid TOML: the file is not UTF-8") from None


def _parsed(text: str, file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # also numbers of thousands of digits, and lists as deep
        raise InputError(f"{file}: not valid TOML: {error}") from None


def _builder(document: FamiliesFile) -> Callable[[FamilyTable], Family]:
    """What all families of one file share is read once."""
    limits, batch = _limits(document.limits, document), _batch(document.batch, document)
    _source_if(document.api.source, document)
    responses_only = tuple(pattern.lower() for pattern in document.responses.only)
    responses_source = _source_if(document.responses.source, document)

    def build(entry: FamilyTable) -> Family:
        match = tuple(pattern.lower() for pattern in entry.match)
        if entry.like is not None:
            return _alike(entry, entry.like, match, document)
        return Family(
            name=entry.name,
            match=match,
            max_tokens_field=entry.max_tokens_field or "max_tokens",
            source=document.source,
            checked_on=_read_on(document),
            rules=tuple(_dated(rule, document) for rule in entry.rule),
            limits=limits,
            json_schema=document.api.json_schema,
            count_tokens=entry.count_tokens or document.api.count_tokens,
            batch=batch,
            reasoning=_reasoning(entry.reasoning, document),
            parameters=_parameters(entry.parameters, document) or Parameters(),
            responses_only=responses_only,
            responses_source=responses_source,
        )

    return build


def _alike(entry: FamilyTable, like: str, match: tuple[str, ...], document: FamiliesFile) -> Family:
    if entry.rule:
        raise ValueError("it has the rules of what it is like, and none of its own")
    found = named_or_matching(like, families())
    if found is None:
        near = ", ".join(near_names(like, families()))
        raise ValueError(f"like is {like!r}: no such family{f'; did you mean {near}?' if near else ''}")
    field = entry.max_tokens_field or found.max_tokens_field
    counts = entry.count_tokens or found.count_tokens
    return replace(
        found,
        name=entry.name,
        match=match,
        max_tokens_field=field,
        count_tokens=counts,
        reasoning=_reasoning(entry.reasoning, document) or found.reasoning,
        parameters=_parameters(entry.parameters, document) or found.parameters,
    )


def _reasoning(name: str | None, document: FamiliesFile) -> Reasoning | None:
    if name is None:
        return None
    entry = document.reasoning.get(name)
    if entry is None:
        raise ValueError(f"reasoning is {name!r}, and the file has no [reasoning.{name}]")
    if entry.default is not None and entry.default not in entry.efforts:
        raise ValueError(f"[reasoning.{name}]: default is {entry.default!r}, which is none of its efforts")
    return Reasoning(**{**entry.model_dump(), "source": _source(entry.source, document)})


def _parameters(name: str | None, document: FamiliesFile) -> Parameters | None:
    if name is None:
        return None
    entry = document.parameters.get(name)
    if entry is None:
        raise ValueError(f"parameters is {name!r}, and the file has no [parameters.{name}]")
    return Parameters(
        rejects=tuple(entry.rejects),
        fixed=entry.fixed,
        only_without_reasoning=tuple(entry.only_without_reasoning),
        ignores=tuple(entry.ignores),
        source=_source(entry.source, document),
        evidence=entry.evidence,
        note=entry.note,
    )


def _dated(entry: RuleTable, document: Document) -> DatedRule:
    try:
        source = _source(entry.source, document)
    except ValueError as error:
        raise ValueError(f"rule {entry.name!r}: {error}") from None
    if entry.valid_from and entry.valid_to and entry.valid_to <= entry.valid_from:
        raise ValueError(f"rule {entry.name!r}: valid_to {entry.valid_to} is not after valid_from {entry.valid_from}")
    return DatedRule(
        rule=_rule(entry),
        source=source,
        evidence=entry.evidence,
        valid_from=entry.valid_from,
        valid_to=entry.valid_to,
        hosts=tuple(entry.hosts),
        note=entry.note,
    )


def _rule(entry: KindTable) -> TokenRule:
    return token_rule(entry.kind, entry.name, entry.params)


def _limits(entry: LimitsTable, document: Document) -> Limits:
    plain = entry.model_dump(exclude={"formats", "source", "evidence"})
    return Limits(**plain, formats=tuple(entry.formats), source=_source_if(entry.source, document))


def _batch(entry: BatchTable | None, document: Document) -> Batch | None:
    if entry is None:
        return None
    plain = entry.model_dump(exclude={"discount", "source"})
    return Batch(discount=Decimal(str(entry.discount)), **plain, source=_source_if(entry.source, document))


def _read_on(document: Document) -> date:
    """Where the file itself does not say: when the newest of its sources was read."""
    days = [source.checked_on for source in document.sources.values()]
    if document.checked_on is None and not days:
        raise ValueError("'checked_on' is missing: the day on which all this was read")
    return document.checked_on or max(days)


def _source_if(key: str | None, document: Document) -> Source | None:
    return None if key is None else _source(key, document)


def _source(key: str, document: Document) -> Source:
    entry = document.sources.get(key)
    if entry is None:
        raise ValueError(f"{key!r} names no source of the file; known: {', '.join(document.sources) or 'none'}")
    return Source(entry.title, entry.url, entry.checked_on)
