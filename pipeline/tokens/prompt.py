"""What a prompt with one image takes: at which detail, with how much text, and by which rule it is billed."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pipeline.tokens import AUTO, TokenRange, TokenRule, UnknownRule, accepted
from pipeline.tokens.analysed import AnalysedRule, sizing_rule
from pipeline.tokens.presizing import LEAST_SIDE, LookedAt
from pipeline.tokens.ranges import Range

Size = tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptShape:
    """What is asked about each image: at which detail, with how much text, and by which rule it is billed."""

    rule: TokenRule
    detail: str
    text: TokenRange
    """Of all prompts together."""
    prompts: int = 1
    """Requests about each image, which all hold it."""
    max_side: int | None = None
    max_image_tokens: int | None = None

    def size(self, detail: str | None = None) -> LookedAt:
        """At which size a run sends images, at this detail or another."""
        return LookedAt(
            sizing_rule(self.rule), self.detail if detail is None else detail, self.max_side, self.max_image_tokens
        )

    def sent(self, width: int, height: int) -> Size:
        """The size that a run sends."""
        return self.size().target(width, height)

    def image_tokens(self, width: int, height: int, detail: str | None = None) -> TokenRange:
        """Of the image as a run would send it."""
        size = self.size(detail)
        return self.rule.tokens(*size.target(width, height), size.detail)

    def read_tokens(self, width: int, height: int, images: int = 1) -> TokenRange | None:
        """Of a model that reads the images before the one that is asked, for all prompts; None where there is none."""
        if not isinstance(self.rule, AnalysedRule):
            return None
        size, n = self.size(), self.prompts * images
        read = self.rule.analyser.tokens(*size.target(width, height), size.detail)
        return TokenRange(n * read.expected, n * read.upper, n * read.lower)

    def unsized_tokens(self, width: int, height: int) -> int:
        """Expected without resizing, or at the largest size that the model accepts; as sent if the rule is unknown."""
        if isinstance(self.rule, UnknownRule):
            return self.image_tokens(width, height).expected
        return self.rule.tokens(*accepted(self.rule, width, height, self.detail), self.detail).expected

    def tokens(self, width: int, height: int, images: int = 1) -> TokenRange:
        """Of all prompts with this image in them, or with several of this size."""
        image, text, n = self.image_tokens(width, height), self.text, self.prompts * images
        return TokenRange(
            n * image.expected + text.expected, n * image.upper + text.upper, n * image.lower + text.lower
        )


def tokens_by_detail(shape: PromptShape, sizes: Iterable[Size]) -> dict[str, float]:
    """Expected tokens of one of these images at each detail that the model distinguishes; empty without images."""
    counted = Counter(sizes)
    return {
        detail: sum(n * shape.image_tokens(*size, detail).expected for size, n in counted.items()) / counted.total()
        for detail in (shape.rule.details if counted else ())
    }


ASSUMED_ANSWER_TOKENS = 100
"""About two sentences. An assumption of ours; `output_tokens=` states another, a sample measures."""
ASSUMED_REASONING = 4
"""A quarter of the room for reasoning is assumed to be used: for looking at a picture models think briefly."""


def answer_tokens(
    images: Range[int], *, stated: int | None, max_tokens: int | None, choices: int, allowance: int = 0
) -> Range[int]:
    """Of all answers, `choices` an image. Without a statement: the assumption, and anything up to `max_tokens`.

    `allowance` is the room for reasoning beside `max_tokens`: a part of it is assumed, all of it possible.
    """
    if stated is not None:
        each = Range(*(choices * stated,) * 3)
    else:
        most = None if max_tokens is None else (max_tokens + allowance) * choices
        answer = ASSUMED_ANSWER_TOKENS if max_tokens is None else min(ASSUMED_ANSWER_TOKENS, max_tokens)
        each = Range((answer + allowance // ASSUMED_REASONING) * choices, choices, most)
    high = None if each.high is None or images.high is None else images.high * each.high
    return Range(images.expected * each.expected, images.low * each.low, high)


def dearer_detail(shape: PromptShape, by_detail: Mapping[str, float]) -> str | None:
    """Why the detail that is asked for costs more than `high`, with the way out; None where it does not."""
    rule, asked = shape.rule, shape.detail
    low, high, meant = by_detail.get("low"), by_detail.get("high"), by_detail.get(rule.auto)
    if asked == "low" and low is not None and high is not None and low > high:
        return (
            f"`low` costs more than `high` on this model ({low:,.0f} against {high:,.0f} tokens an image): "
            "take `request.detail=high`"
        )
    if asked == AUTO and rule.auto == "original" and meant is not None and high is not None and high < meant:
        return (
            f"`auto` means `original` on this model ({meant:,.0f} tokens an image): "
            f"`request.detail=high` takes {high:,.0f}, {meant / high:.1f} times less"
        )
    return None


def out_of_reach(shape: PromptShape) -> str | None:
    """Why no size of an image has as few tokens as `max_image_tokens` says, with the way out; None where one has."""
    limit, rule, asked = shape.max_image_tokens, shape.rule, shape.detail
    if limit is None or shape.size().reaches():
        return None
    least = {detail: rule.tokens(LEAST_SIDE, LEAST_SIDE, detail).expected for detail in (asked, *rule.details)}
    line = f"no image has {limit:,} tokens or fewer on this model: the smallest has {least[asked]:,} at detail {asked}"
    cheaper = [detail for detail, tokens in least.items() if tokens <= limit]
    return f"{line}; take `request.detail={cheaper[0]}`, about {least[cheaper[0]]:,}" if cheaper else line
