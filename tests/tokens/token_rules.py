"""The token rules that the catalogue's files describe, for the tests of this folder."""

import json
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

from pipeline.tokens import TokenRule, UnknownRule, spanning, token_rule

CATALOGUE = Path(__file__).parents[2] / "pipeline" / "catalogue"
VECTORS: dict[str, Any] = json.loads((Path(__file__).parent / "token_vectors.json").read_text(encoding="utf-8"))


@cache
def documents() -> dict[str, dict[str, Any]]:
    """A catalogue file's name -> what it says."""
    return {file.stem: tomllib.loads(file.read_text(encoding="utf-8")) for file in sorted(CATALOGUE.glob("*.toml"))}


@cache
def described() -> dict[str, TokenRule]:
    """`family/rule` -> the rule."""
    return {
        f"{family['name']}/{rule['name']}": token_rule(rule["kind"], rule["name"], rule["params"])
        for document in documents().values()
        for family in document["family"]
        for rule in family.get("rule", [])
    }


@cache
def combined() -> dict[str, TokenRule]:
    """Family -> one rule for all that are listed without a host, as an estimate uses them."""
    found: dict[str, TokenRule] = {}
    for document in documents().values():
        for family in document["family"]:
            names = [rule["name"] for rule in family.get("rule", []) if "hosts" not in rule]
            if names:
                found[family["name"]] = spanning(tuple(described()[f"{family['name']}/{name}"] for name in names))
    return found


@cache
def unknown() -> UnknownRule:
    """The rule of a model without an entry."""
    entry = documents()["unknown"]["unknown"]
    rules = tuple(token_rule(rule["kind"], rule["name"], rule["params"]) for rule in entry["rule"])
    return UnknownRule(entry["name"], rules, entry["max_side"])


@cache
def of_vector(name: str) -> TokenRule:
    """The rule that a vector names: one of the catalogue, or one that stands beside the vectors."""
    beside = VECTORS["rules"].get(name)
    return token_rule(beside["kind"], name, beside["params"]) if beside else described()[name]
