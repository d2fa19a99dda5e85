"""The catalogue's files: every fact has a source and a mark, every name finds its family."""

import datetime as dt
from itertools import pairwise
from typing import Any

import pytest

from pipeline.catalogue import family_of
from tests.tokens.token_rules import combined, described, documents, unknown

DOCUMENT = {
    "source",
    "responses",
    "url",
    "checked_on",
    "sources",
    "limits",
    "api",
    "batch",
    "family",
    "host",
    "unknown",
} | {
    "reasoning",
    "parameters",
    "tier",
}
FAMILY = {"name", "match", "max_tokens_field", "tile", "rule", "reasoning", "parameters"}
RULE = {"name", "kind", "params", "valid_from", "valid_to", "hosts", "source", "evidence", "note"}
LIMITS = {"max_image_bytes", "max_request_bytes", "max_images", "max_side", "max_pixels", "max_patches", "formats"}
FORMATS = {"png", "jpeg", "webp", "gif", "heic", "heif"}
EVIDENCE = {"published", "measured", "derived", "unverified"}
FAMILIES = [(file, family) for file, document in documents().items() for family in document["family"]]


@pytest.mark.parametrize("file", documents())
def test_every_fact_has_a_source(file: str) -> None:
    """Each fact, of rules to service tiers, names a source that has a title, an address and a date."""
    document = documents()[file]
    sources = document.get("sources", {})
    for source in sources.values():
        assert source.keys() == {"title", "url", "checked_on"}
        assert source["url"].startswith("https://")
        assert source["checked_on"] >= dt.date(2026, 8, 1)
    tables = [document[key] for key in ("limits", "api", "batch", "responses") if key in document]
    rules = [rule for family in document["family"] for rule in family.get("rule", [])]
    asked = [*document.get("reasoning", {}).values(), *document.get("parameters", {}).values()]
    tiers = document.get("tier", [])
    used = [table["source"] for table in [*tables, *rules, *asked, *tiers, *document.get("host", [])]]
    assert set(used) == sources.keys()
    assert {rule["evidence"] for rule in [*rules, *asked, *document.get("host", [])]} <= EVIDENCE


@pytest.mark.parametrize("file", documents())
def test_every_key_is_known(file: str) -> None:
    """A misspelt key would be a fact without a reader."""
    document = documents()[file]
    assert document.keys() <= DOCUMENT
    every_limits: list[dict[str, Any]] = [host["limits"] for host in document.get("host", [])]
    every_limits += [document["limits"]] if "limits" in document else []
    for limits in every_limits:
        assert limits.keys() <= LIMITS | {"source", "evidence", "note"}
        assert set(limits.get("formats", [])) <= FORMATS
    for family in document["family"]:
        assert family.keys() <= FAMILY
        assert all(rule.keys() <= RULE for rule in family.get("rule", []))


@pytest.mark.parametrize(("file", "family"), FAMILIES, ids=[f"{file}-{family['name']}" for file, family in FAMILIES])
def test_a_family_is_consistent(file: str, family: dict[str, Any]) -> None:
    """Patterns are lower case; rules have names of their own; validity runs forward; some rule holds everywhere now."""
    assert all(pattern == pattern.lower() for pattern in family["match"])
    rules = family.get("rule", [])
    assert len({rule["name"] for rule in rules}) == len(rules)
    for rule in rules:
        days = [rule[key] for key in ("valid_from", "valid_to") if key in rule]
        assert all(first < last for first, last in pairwise(days))
    assert not rules or any("hosts" not in rule and "valid_to" not in rule for rule in rules)
    if "tile" in family:
        assert family["tile"] == rules[0]["params"]


def test_what_is_refused_is_a_limit_of_the_vendor() -> None:
    """A rule that keeps an image's own size knows from how many patches on it is refused; the limits say the same."""
    found = [
        (limits, document["limits"]["max_patches"])
        for document in documents().values()
        for family in document["family"]
        for rule in family.get("rule", [])
        for limits in rule["params"].values()
        if rule["kind"] == "openai-patch" and isinstance(limits, dict)
    ]
    assert [limits["refused_above"] for limits, _ in found if "refused_above" in limits] == [30_000] * 3
    for limits, most in found:
        side = limits.get("max_side", 70_000) // 32
        assert limits.get("refused_above", most) == most
        assert "refused_above" in limits or min(limits.get("budget", side**2), side**2) <= most


def test_names_are_unique() -> None:
    """A family's name says one thing in all files."""
    names = [family["name"] for _, family in FAMILIES]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(
    ("model", "family"),
    [
        ("gpt-4o-2024-08-06", "gpt-4o"),
        ("openai/gpt-4o", "gpt-4o"),
        ("openai/gpt-4o-mini", "gpt-4o-mini"),
        ("ft:gpt-4o-mini-2024-07-18:acme::abc", "gpt-4o-mini"),
        ("gpt-4.1-mini-2025-04-14", "gpt-4.1-mini"),
        ("gpt-4.1-nano", "gpt-4.1-nano"),
        ("gpt-5-mini-2025-08-07", "gpt-5-mini"),
        ("gpt-5.1-codex-mini", "gpt-5.3-codex"),
        ("gpt-5.3-codex", "gpt-5.3-codex"),
        ("gpt-5.4", "gpt-5.4"),
        ("gpt-5.4-mini", "gpt-5.4-mini"),
        ("gpt-5.6-luna", "gpt-5.6"),
        ("gpt-6.1-sol", "gpt-6"),
        ("o4-mini", "o4-mini"),
        ("gpt-image-1", "gpt-image-1"),
        ("claude-sonnet-4-6", "claude-standard"),
        ("claude-sonnet-4-20250514", "claude-standard"),
        ("anthropic/claude-sonnet-4.5", "claude-standard"),
        ("claude-haiku-4-5-20251001", "claude-standard"),
        ("claude-opus-4-20250514", "claude-standard"),
        ("us.anthropic.claude-opus-4-7-v1:0", "claude-high"),
        ("anthropic/claude-opus-4.8", "claude-high"),
        ("claude-sonnet-5-5", "claude-high"),
        ("claude-fable-5-2", "claude-high"),
        ("claude-haiku-5-5", "claude-other"),
        ("claude-3-5-sonnet-latest", "claude-3"),
        ("anthropic/claude-3.5-sonnet", "claude-3"),
        ("models/gemini-2.5-flash", "gemini-2.5"),
        ("google/gemini-flash-1.5", "gemini-2"),
        ("google/gemini-3-pro-preview", "gemini-3"),
        ("gemini-3.8-flash", "gemini-3"),
        ("gemini-4-argon", "gemini-4"),
        ("google/gemma-4-31b-it", "gemma-4"),
        ("Qwen/Qwen2.5-VL-7B-Instruct", "qwen2.5-vl"),
        ("qwen2.5vl:7b", "qwen2.5-vl"),
        ("accounts/fireworks/models/qwen2p5-vl-32b-instruct", "qwen2.5-vl"),
        ("mistral-small3.2:24b", "mistral-3"),
        ("us.mistral.pixtral-large-2502-v1:0", "pixtral-large"),
        ("openai/gpt-5:online", "gpt-5"),
        ("anthropic/claude-sonnet-4:beta", "claude-standard"),
        ("Qwen/Qwen3-VL-8B-Instruct", "qwen3-vl"),
        ("alibaba/qwen3-vl-plus", "qwen-vl-hosted"),
        ("qwen3.6-plus", "qwen3.5"),
        ("qvq-max", "qvq"),
        ("mistralai/pixtral-12b", "pixtral-12b"),
        ("pixtral-large-2411", "pixtral-large"),
        ("mistralai/mistral-small-3.2-24b-instruct", "mistral-3"),
        ("mistral-medium-3-5", "mistral-later"),
        ("ministral-8b-2512", "mistral-later"),
        ("meta-llama/Llama-4-Scout-17B-16E-Instruct", "llama-4"),
        ("us.meta.llama4-maverick-17b-instruct-v1:0", "llama-4"),
        ("llama3.2-vision:11b", "llama-3.2-vision"),
        ("x-ai/grok-4-fast-reasoning", "grok"),
    ],
)
def test_a_name_finds_its_family(model: str, family: str) -> None:
    """Names as vendors, gateways, hubs and local servers write them."""
    found = family_of(model)
    assert found is not None
    assert found.name == family
    assert family in combined()


@pytest.mark.parametrize(
    "model",
    ["llava:13b", "openrouter/auto", "mistral-small-24b-instruct-2501", "llama-3.3-70b", "qwen3-max", "my-deployment"],
)
def test_a_name_that_nobody_described(model: str) -> None:
    """No family claims a model that its page does not speak of; the bounded fallback takes it."""
    assert family_of(model) is None
    assert unknown().tokens(1024, 768).upper > 0


def test_the_fallback_repeats_rules_that_are_known() -> None:
    """Its bounds come from the other files: a rule of the same name is the same rule."""
    known = {rule.name: rule for rule in described().values()}
    for rule in unknown().rules:
        if rule.name in known and not rule.name.startswith("openai-"):
            assert rule == known[rule.name]
