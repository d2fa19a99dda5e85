"""Bounds, where no count is published, where two are, and where the model is unknown."""

from dataclasses import dataclass
from typing import ClassVar

from pipeline.tokens.base import AUTO, TokenRange, TokenRule, billed_alike, ceil_div, fitted
from pipeline.tokens.openai import OpenAIPatches
from pipeline.tokens.openweights import QwenResize


@dataclass(frozen=True, slots=True)
class GrokTiles:
    """(tiles + 1) x 256 tokens, tiles of 448 x 448 pixels, at most six. How they are laid is not published.

    Source: xAI, "Image understanding". Expected is the plain grid; the range is all that the page allows, and what an
    older one did.
    """

    name: str
    tile_side: int = 448
    max_tiles: int = 6
    tile_tokens: int = 256

    details: ClassVar[tuple[str, ...]] = ()
    auto: ClassVar[str] = AUTO

    def tokens(self, width: int, height: int, detail: str = AUTO) -> TokenRange:  # noqa: ARG002 - it has none
        tiles = min(self.max_tiles, ceil_div(width, self.tile_side) * ceil_div(height, self.tile_side))
        return TokenRange((tiles + 1) * self.tile_tokens, (self.max_tiles + 1) * self.tile_tokens, self.tile_tokens)

    def looked_at(self, width: int, height: int, detail: str = AUTO) -> tuple[int, int]:
        """No layout of six tiles is longer than six tiles in a row."""
        target = fitted(width, height, self.max_tiles * self.tile_side)
        return billed_alike((width, height), target, lambda w, h: self.tokens(w, h, detail))


@dataclass(frozen=True, slots=True)
class SpanningRule:
    """Several published rules, one of them bills: the first is expected, the range spans all of them."""

    rules: tuple[TokenRule, ...]

    @property
    def name(self) -> str:
        return " | ".join(rule.name for rule in self.rules)

    @property
    def details(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(detail for rule in self.rules for detail in rule.details))

    @property
    def auto(self) -> str:
        return self.rules[0].auto

    def tokens(self, width: int, height: int, detail: str = AUTO) -> TokenRange:
        found = [rule.tokens(width, height, detail) for rule in self.rules]
        return TokenRange.over(found[0].expected, found)

    def looked_at(self, width: int, height: int, detail: str = AUTO) -> tuple[int, int]:
        """The largest that any of them looks at and none of them refuses, so that nothing is lost whichever it is."""
        width, height = accepted(self, width, height, detail)
        targets = [rule.looked_at(width, height, detail) for rule in self.rules]
        target = max(targets, key=lambda size: size[0] * size[1])
        return billed_alike((width, height), target, lambda w, h: self._counts(w, h, detail))

    def _counts(self, width: int, height: int, detail: str) -> list[int]:
        return [rule.tokens(width, height, detail).expected for rule in self.rules]


@dataclass(frozen=True, slots=True)
class UnknownRule:
    """A model without a known rule, or one that a gateway chooses: what the `rules` of known ones would say.

    Expected is their median. `detail` may be ignored by such a model, so that the range holds `auto` as well. What it
    looks at is not known either: `max_side` is our choice, and a larger image has other bounds once it is sent so.
    """

    name: str
    rules: tuple[TokenRule, ...]
    max_side: int

    details: ClassVar[tuple[str, ...]] = ()
    auto: ClassVar[str] = AUTO

    def tokens(self, width: int, height: int, detail: str = AUTO) -> TokenRange:
        asked = [rule.tokens(width, height, detail) for rule in self.rules]
        plain = asked if detail == AUTO else [rule.tokens(width, height) for rule in self.rules]
        median = sorted(found.expected for found in asked)[len(asked) // 2]
        return TokenRange.over(median, asked + plain)

    def looked_at(self, width: int, height: int, detail: str = AUTO) -> tuple[int, int]:  # noqa: ARG002 - see above
        return fitted(width, height, self.max_side)


def accepted(rule: TokenRule, width: int, height: int, detail: str = AUTO) -> tuple[int, int]:
    """The size itself, or the largest that the rule does not refuse: beyond it there is neither answer nor bill."""
    for one in rule.rules if isinstance(rule, SpanningRule) else (rule,):
        if isinstance(one, OpenAIPatches):
            width, height = one.accepted(width, height, detail)
    return width, height


def rejects_shape(rule: TokenRule, width: int, height: int) -> bool:
    """Whether the model refuses the image because it is too long for how wide it is, at any size."""
    rules = rule.rules if isinstance(rule, SpanningRule) else (rule,)
    longer, shorter = max(width, height), min(width, height)
    return any(isinstance(one, QwenResize) and longer > one.MOST_ASPECT * shorter for one in rules)


def spanning(rules: tuple[TokenRule, ...]) -> TokenRule:
    """One rule for all of `rules`, the most likely first; at least one."""
    return rules[0] if len(rules) == 1 else SpanningRule(rules)
