"""Where another model reads the image first, and the one that is asked gets that reading as text.

Source: 302.AI, "Image analysis" (the suffix `-ocr`, the field `ocr_model`). How long a reading is, is not published.
"""

from dataclasses import dataclass
from typing import Final

from pipeline.tokens.base import AUTO, TokenRange, TokenRule

READING: Final = TokenRange(expected=300, upper=16_384, lower=1)
"""Tokens of the reading of one image. An assumption of ours: a long description, and at most the longest answer that
gpt-4o-mini, the default analyser, can give.
"""


@dataclass(frozen=True, slots=True)
class AnalysedRule:
    """What the model that is asked is billed for an image that `analyser` reads for it."""

    analyser: TokenRule
    """The rule of the model that reads the image."""
    own: TokenRule | None = None
    """The rule of the model that is asked, where it reads images, too: then both look at it."""

    @property
    def name(self) -> str:
        both = "" if self.own is None else f" | {self.own.name}"
        return f"reading by {self.analyser.name}{both}"

    @property
    def sizing(self) -> TokenRule:
        """The rule by which images are made smaller."""
        return self.own or self.analyser

    @property
    def details(self) -> tuple[str, ...]:
        return self.sizing.details

    @property
    def auto(self) -> str:
        return self.sizing.auto

    def tokens(self, width: int, height: int, detail: str = AUTO) -> TokenRange:
        """Of the reading; and up to those of the image itself, which may not be passed on."""
        if self.own is None:
            return READING
        image = self.own.tokens(width, height, detail)
        return TokenRange(READING.expected + image.expected, READING.upper + image.upper, READING.lower)

    def looked_at(self, width: int, height: int, detail: str = AUTO) -> tuple[int, int]:
        return self.sizing.looked_at(width, height, detail)


def sizing_rule(rule: TokenRule) -> TokenRule:
    """The rule by which images are made smaller: that of the model that looks at them."""
    return rule.sizing if isinstance(rule, AnalysedRule) else rule
