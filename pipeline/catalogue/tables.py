"""The tables of a catalogue file as they must stand in it. What does not fit is said by file, family and key."""

import re
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from pipeline.catalogue.facts import CountTokens, Evidence, JsonSchema, MaxTokensField
from pipeline.errors import InputError

Text = Annotated[str, Field(min_length=1)]
Texts = Annotated[list[Text], Field(min_length=1)]
Positive = Annotated[int, Field(gt=0)]
MOST_SAID: Final = 3
"""Mistakes of one file that are named at once."""
MOST_SHOWN: Final = 60
"""Characters of a value that does not fit."""


def _host_name(text: str) -> str:
    if re.fullmatch(r"[\w-]+(\.[\w-]+)*", text) is None:
        raise ValueError("it should be how a host's name ends, without https:// and path: example.com")
    return text.lower()


HostName = Annotated[str, AfterValidator(_host_name)]


class _Table(BaseModel):
    """A number in quotes is no number, and an unknown key is a mistake."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class SourceTable(_Table):
    title: Text
    url: str = ""
    checked_on: date


class KindTable(_Table):
    """A token rule; `params` are checked where it is built."""

    name: Text
    kind: Text
    params: dict[str, Any] = {}


class RuleTable(KindTable):
    valid_from: date | None = None
    valid_to: date | None = None
    hosts: list[HostName] = []
    source: Text
    evidence: Evidence = "unverified"
    note: str = ""


class LimitsTable(_Table):
    max_image_bytes: Positive | None = None
    max_request_bytes: Positive | None = None
    max_images: Positive | None = None
    max_side: Positive | None = None
    max_pixels: Positive | None = None
    max_patches: Positive | None = None
    formats: list[Text] = []
    source: str | None = None
    evidence: Evidence = "unverified"
    note: str = ""


class ApiTable(_Table):
    json_schema: JsonSchema = "unknown"
    count_tokens: CountTokens = "requested"
    """What counts against tokens a minute: the prompt's and `max_tokens`, or those billed."""
    source: str | None = None


class ResponsesTable(_Table):
    only: list[str] = []
    """Patterns of the models that have no chat/completions."""
    source: str | None = None
    evidence: Evidence = "unverified"


class BatchTable(_Table):
    discount: Annotated[float, Field(ge=0, le=1)]
    max_requests: Positive | None = None
    max_bytes: Positive | None = None
    hours: Positive | None = None
    source: str | None = None


class ReasoningTable(_Table):
    efforts: dict[Text, Annotated[int, Field(ge=0)]] = {}
    """The lowest first, each with the tokens to allow for it."""
    default: Text | None = None
    allowance: Annotated[int, Field(ge=0)] = 0
    source: Text
    evidence: Evidence = "unverified"
    note: str = ""


class ParametersTable(_Table):
    rejects: list[Text] = []
    fixed: dict[Text, float | int] = {}
    only_without_reasoning: list[Text] = []
    ignores: list[Text] = []
    source: Text
    evidence: Evidence = "unverified"
    note: str = ""


class TierTable(_Table):
    """Models that a provider serves at a service tier, and for how much."""

    name: Text
    provider: Text
    """As genai-prices names it."""
    match: Texts
    share: Annotated[float, Field(gt=0)] | None = None
    """Of the price at the default tier; None: the next three are US dollars a million tokens."""
    input_usd_per_mtok: Text = "0"
    output_usd_per_mtok: Text = "0"
    cached_usd_per_mtok: Text | None = None
    source: Text


class FamilyTable(_Table):
    name: Text
    match: Texts
    like: Text | None = None
    """A family of the package, or a model of one, that these models are; in place of rules."""
    max_tokens_field: MaxTokensField | None = None
    count_tokens: CountTokens | None = None
    """None: as the file's `[api]` says, or what the family is like."""
    reasoning: Text | None = None
    """One of the file's `[reasoning.NAME]`."""
    parameters: Text | None = None
    """One of the file's `[parameters.NAME]`."""
    rule: list[RuleTable] = []


class HostTable(_Table):
    name: Text
    match: Texts
    limits: LimitsTable
    source: Text
    evidence: Evidence = "unverified"
    note: str = ""
    takes_addresses: bool = True


class UnknownTable(_Table):
    name: Text
    max_side: Positive
    rule: Annotated[list[KindTable], Field(min_length=1)]


class Document(_Table):
    """What every file of the catalogue may begin with."""

    source: str = ""
    url: str = ""
    checked_on: date | None = None
    sources: dict[str, SourceTable] = {}


class FamiliesFile(Document):
    limits: LimitsTable = LimitsTable()
    api: ApiTable = ApiTable()
    responses: ResponsesTable = ResponsesTable()
    batch: BatchTable | None = None
    reasoning: dict[str, ReasoningTable] = {}
    parameters: dict[str, ParametersTable] = {}
    tier: list[TierTable] = []
    family: Annotated[list[FamilyTable], Field(min_length=1)]


class HostsFile(Document):
    family: Annotated[list[FamilyTable], Field(max_length=0)] = []
    host: Annotated[list[HostTable], Field(min_length=1)]


class UnknownFile(Document):
    family: Annotated[list[FamilyTable], Field(max_length=0)] = []
    unknown: UnknownTable


File = TypeVar("File", bound=Document)
TABLES: Final[dict[str, type[_Table]]] = {
    "sources": SourceTable,
    "family": FamilyTable,
    "rule": RuleTable,
    "limits": LimitsTable,
    "api": ApiTable,
    "responses": ResponsesTable,
    "batch": BatchTable,
    "reasoning": ReasoningTable,
    "parameters": ParametersTable,
    "tier": TierTable,
    "host": HostTable,
    "unknown": UnknownTable,
}


def checked(document: dict[str, Any], kind: type[File], file: Path) -> File:
    """The same as values. Raises InputError that names the file, the family and the key."""
    try:
        return kind.model_validate(document)
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=True)
        said = "; ".join(_said(dict(item), document, kind) for item in found[:MOST_SAID])
        more = f"; and {len(found) - MOST_SAID} more" if len(found) > MOST_SAID else ""
        raise InputError(f"{file}: {said}{more}") from None


def _said(item: dict[str, Any], document: dict[str, Any], kind: type[Document]) -> str:
    """One mistake: `family 'ours': rule 'ours-2026': evidence is 'sure': ...`."""
    *path, key = item["loc"]
    if isinstance(key, int):  # an entry of a list that holds no tables
        *path, of = path
        key = f"{of} {key + 1}"
    return _where(path, document) + _what(item, key, path, _table_at(path, kind))


def _where(path: Sequence[str | int], document: dict[str, Any]) -> str:
    """Tables by their names, and by their number where they have none: `family 'ours': rule 2: `."""
    found: Any = document
    said: list[str] = []
    for part in path:
        found = found[part]
        if isinstance(part, str):
            said.append(part)
        else:
            name = found.get("name") if isinstance(found, dict) else None
            said[-1] += f" {name!r}" if isinstance(name, str) else f" {part + 1}"
    return "".join(f"{each}: " for each in said)


def _table_at(path: Sequence[str | int], kind: type[Document]) -> type[_Table]:
    return next((TABLES[part] for part in reversed(path) if isinstance(part, str) and part in TABLES), kind)


def _what(item: dict[str, Any], key: str, path: Sequence[str | int], table: type[_Table]) -> str:
    value = item["input"]
    if item["type"] in {"missing", "too_short"} and not path and key == "family":
        return "no family: begin one with [[family]]"
    if item["type"] == "missing":
        return f"{key!r} is missing"
    if item["type"] == "extra_forbidden":
        return f"unknown key {key!r}; known: {', '.join(sorted(table.model_fields))}"
    if item["type"] == "list_type" and isinstance(value, dict):
        name = ".".join([*(part for part in path if isinstance(part, str)), key])
        return f"write [[{name}]] in two brackets: there may be several"
    if item["type"] in {"model_type", "dict_type"}:
        return f"{key} is {_short(value)}: it should be a table"
    expected = re.sub("^(Input|String|List) should", "it should", item["msg"].removeprefix("Value error, "))
    quotes = ", without quotes: 2026-11-20" if item["type"] == "date_type" and isinstance(value, str) else ""
    return f"{key} is {_short(value)}: {expected}{quotes}"


def _short(value: object) -> str:
    text = value.isoformat() if isinstance(value, date) else repr(value)
    return text if len(text) <= MOST_SHOWN else f"{text[:MOST_SHOWN]}..."
