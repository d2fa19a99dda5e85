"""A rule from its description: a kind, a name, and parameters as they stand in a TOML file."""

from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, fields
from fractions import Fraction
from typing import Any

from pipeline.tokens.anthropic import AnthropicArea, AnthropicPatches
from pipeline.tokens.base import TokenRule
from pipeline.tokens.bounds import GrokTiles
from pipeline.tokens.gemini import GeminiCrops, GeminiGrid
from pipeline.tokens.openai import OpenAIPatches, OpenAITiles, PatchLimits
from pipeline.tokens.openweights import LlamaCanvas, MistralRows, QwenResize
from pipeline.tokens.sizing import SizeRule

KINDS: Mapping[str, Callable[..., TokenRule]] = {
    "openai-tile": OpenAITiles,
    "openai-patch": OpenAIPatches,
    "anthropic-patch": AnthropicPatches,
    "anthropic-area": AnthropicArea,
    "gemini-crop": GeminiCrops,
    "gemini-grid": GeminiGrid,
    "qwen": QwenResize,
    "mistral": MistralRows,
    "llama": LlamaCanvas,
    "grok": GrokTiles,
}


def token_rule(kind: str, name: str, params: Mapping[str, Any]) -> TokenRule:
    """The rule of this kind. `params` are the fields of its class; sizes are tables of theirs.

    Raises ValueError that names the rule, the parameter and what is known.
    """
    build = KINDS.get(kind)
    if build is None:
        raise ValueError(f"token rule {name!r}: no kind {kind!r}; known: {', '.join(KINDS)}")
    known = {field.name: field for field in fields(build) if field.name != "name"}  # type: ignore[arg-type]  # all are dataclasses
    for key in params:
        if key not in known:
            raise ValueError(f"token rule {name!r}: {kind} has no parameter {key!r}; known: {', '.join(known)}")
    missing = [key for key, field in known.items() if key not in params and field.default is MISSING]
    if missing:
        raise ValueError(f"token rule {name!r}: {kind} needs {', '.join(missing)}")
    rule = build(name=name, **{key: _value(known[key], value, name) for key, value in params.items()})
    if rule.details and rule.auto not in rule.details:
        raise ValueError(f"token rule {name!r}: auto is {rule.auto!r}; known: {', '.join(rule.details)}")
    return rule


def _value(field: Field[Any], value: object, name: str) -> object:
    """`value` in the type of the field."""
    wanted = str(field.type)
    where = f"token rule {name!r}: {field.name}"
    if "SizeRule" in wanted or "PatchLimits" in wanted:
        return _limits(SizeRule if "SizeRule" in wanted else PatchLimits, value, where)
    if "Fraction" in wanted:
        return _multiplier(value, where)
    if "bool" in wanted or "str" in wanted:
        expected = bool if "bool" in wanted else str
        if not isinstance(value, expected):
            raise ValueError(f"{where} is {value!r}, not a {expected.__name__}")
        return value
    return _whole(value, where, least=0 if field.default == 0 else 1)


def _limits(build: type[SizeRule] | type[PatchLimits], value: object, where: str) -> SizeRule | PatchLimits:
    known = {field.name for field in fields(build)}
    if not isinstance(value, Mapping) or not value.keys() <= known:
        raise ValueError(f"{where} is {value!r}, not a table of {', '.join(sorted(known))}")
    try:
        return build(**{key: _whole(side, f"{where}.{key}", least=1) for key, side in value.items()})
    except TypeError:
        raise ValueError(f"{where} needs max_side") from None


def _multiplier(value: object, where: str) -> Fraction:
    """Through its decimal digits: 1.62 is 81/50, not the nearest binary fraction."""
    try:
        multiplier = Fraction(str(value))
    except (ValueError, ZeroDivisionError):
        multiplier = Fraction(0)
    if multiplier <= 0:
        raise ValueError(f"{where} is {value!r}, not a number above 0")
    return multiplier


def _whole(value: object, where: str, *, least: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ValueError(f"{where} is {value!r}, not a whole number of at least {least}")
    return value
