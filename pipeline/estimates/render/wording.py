"""What an estimate rests on, in words for people who type no commands."""

import re

from pipeline.config.references import REFERENCE
from pipeline.estimates.figures import Estimate, ModelEstimate
from pipeline.estimates.render.text import range_text


def without_references(line: str) -> str:
    """A line in which settings and arguments stand as words: `request.detail=low` becomes detail low."""
    return REFERENCE.sub(_words, line).replace("`", "")


def _words(found: re.Match[str]) -> str:
    name = found["override"] or found["key"] or found["argument"] or ""
    value = found["key_value"] or found["value"] or ""
    plain = name.rpartition(".")[2].replace("_", " ")
    return plain if value in {"", "N", "True"} else f"{plain} {value}"


def assumptions(estimate: Estimate) -> list[str]:
    """A sentence each."""
    first = estimate.models[0]
    if first.pages is not None:
        return ["Pages: an image is one page, and no tokens are billed."]
    images = max(1, estimate.readable.expected)
    words = range_text(first.text_tokens, lambda count: f"{count:,}")
    each = "a request" if first.prompts == 1 else f"for the {first.prompts} requests of an image"
    basis = {
        "assumed": "an assumption, and the upper end of the range is the longest answer that is allowed",
        "stated": "as stated",
    }.get(first.output_basis, first.output_basis)
    lines = [
        f"Prompt: {words} tokens {each}, estimated from its length.",
        f"Answers: {first.output_tokens.expected // images:,} tokens each, {basis}.",
        *_reasoning(first),
    ]
    if not any(model.seconds or model.sample for model in estimate.models):
        lines.append("Time: unknown, because no rate limit was stated and no sample was measured.")
    return lines


def _reasoning(model: ModelEstimate) -> list[str]:
    if model.reasoning_tokens or model.sample:
        return []
    if not model.reasoning_allowance:
        return ["Reasoning: its tokens are part of the output, and unknown without a sample."]
    return [f"Reasoning: up to {model.reasoning_allowance:,} tokens an answer; a quarter of them is assumed."]
