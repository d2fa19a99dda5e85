"""Which of several families a model's name belongs to, however a vendor, a gateway or a local server writes it."""

import difflib
from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Final

from pipeline.catalogue.facts import Family

NEAR: Final = 0.6
"""How much of two names is the same (0 to 1) where one may have been meant by the other."""
MOST_NEAR: Final = 3


def bare_name(model: str) -> str:
    """The name without a gateway's prefix: `openai/gpt-4o` -> `gpt-4o`."""
    return model.rsplit("/", 1)[-1].lower()


def matching(model: str, known: Sequence[Family]) -> Family | None:
    """The first of `known` that the whole name belongs to. A pattern with a `/` means the gateway's prefix as well."""
    name, whole = bare_name(model), model.lower()

    def is_of(family: Family) -> bool:
        return any(fnmatchcase(whole if "/" in pattern else name, pattern) for pattern in family.match)

    return next((family for family in known if is_of(family)), None) if name else None


def matching_part(model: str, known: Sequence[Family]) -> Family | None:
    """The same; where the whole name is not known, what follows a colon decides, and then what stands before it.

    A colon may part a model's name from a provider's (`acme:gpt-4o`) or from a gateway's way of serving it
    (`gpt-5:online`).
    """
    before, _, after = model.partition(":")
    return matching(model, known) or matching(after, known) or matching(before, known)


def named_or_matching(name: str, known: Sequence[Family]) -> Family | None:
    """The family of this name, or else of a model of this name; None where there is neither."""
    named = next((family for family in known if family.name.lower() == name.lower()), None)
    return named or matching_part(name, known)


def near_names(name: str, known: Sequence[Family]) -> list[str]:
    """Up to three families whose names, or whose models' names, are most like this one."""
    names = {family.name: family.name for family in known}
    for family in known:
        names |= {pattern.strip("*"): family.name for pattern in family.match if pattern.strip("*") not in names}
    near = difflib.get_close_matches(bare_name(name), names, n=2 * MOST_NEAR, cutoff=NEAR)
    return list(dict.fromkeys(names[each] for each in near))[:MOST_NEAR]
