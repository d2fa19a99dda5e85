"""What the same 1,000 images cost on eight models: sent as they are, sized by us, and within so many tokens each.

`python benchmarks/cost_table.py` prints the table of docs/costs.md from the catalogue's token rules and the prices of
genai-prices, by sizes alone; nothing is sent.
"""

from collections import Counter
from collections.abc import Mapping
from datetime import date
from random import Random

from pipeline.catalogue.offers import price_at
from pipeline.config.loading import load_config
from pipeline.estimates.job import Candidate, provider_and_model
from pipeline.tokens.prompt import PromptShape, Size

IMAGES, SEED = 1000, 5
TODAY = date(2026, 11, 21)
WITHIN = 800
SIZES: Mapping[Size, int] = {
    (4032, 3024): 20, (3024, 4032): 20, (3000, 4000): 5, (1179, 2556): 5,
    (6000, 4000): 8, (4000, 6000): 4, (5184, 3456): 3, (8192, 2048): 1,
    (1920, 1080): 8, (1600, 1200): 6, (1200, 1600): 4, (1080, 1080): 5, (1024, 768): 5, (800, 600): 3, (640, 480): 3,
}  # fmt: skip
"""Hundredths of phones (upright, lying, screenshots), of cameras with a panorama, and of pictures from the web."""
MODELS = (
    "gpt-4o", "gpt-4.1-mini", "gpt-5.6", "claude-haiku-4-5", "claude-opus-4-7", "gemini-2.5-flash",
    "mistral-small-latest", "openrouter:qwen/qwen3-vl-8b-instruct",
)  # fmt: skip
_MILLION = 1_000_000


def images() -> Counter[Size]:
    """A thousand sizes, drawn with a seed."""
    return Counter(Random(SEED).choices(list(SIZES), weights=list(SIZES.values()), k=IMAGES))


def prompt_shape(candidate: Candidate, detail: str | None = None, limit: int | None = None) -> PromptShape:
    asked = candidate.prompt_shape(TODAY)
    return PromptShape(rule=asked.rule, detail=detail or asked.detail, text=asked.text, max_image_tokens=limit)


def row(name: str, drawn: Counter[Size]) -> list[str]:
    """One model: image tokens of all, and what they cost as input."""
    provider, model = provider_and_model(name)
    config = load_config(None, {"request.model": model}, environ={})
    candidate = Candidate(name=name, config=config, provider=provider, anywhere=provider is None)
    price = price_at(model, provider) if provider else candidate.prices()[0]
    asked, within = prompt_shape(candidate), prompt_shape(candidate, limit=WITHIN)

    def cell(tokens: int) -> str:
        worth = "unknown" if price is None else f"${tokens * price.input_usd_per_mtok / _MILLION:.2f}"
        return f"{tokens:,} · {worth}"

    sent = sum(w * h * times for size, times in drawn.items() for w, h in [asked.sent(*size)])
    pixels = sum(w * h * times for (w, h), times in drawn.items())
    as_they_are = sum(asked.rule.tokens(*size, asked.detail).expected * times for size, times in drawn.items())
    high = "-"
    if asked.rule.auto == "original":
        high = cell(_total(prompt_shape(candidate, "high"), drawn))
    least = cell(_total(within, drawn)) if within.size().reaches() else "not by size"
    refused = sum(times for size, times in drawn.items() if _is_refused(candidate, size))
    first = cell(as_they_are) + (f" ({refused} refused)" if refused else "")
    return [name, first, cell(_total(asked, drawn)), f"{sent / pixels:.0%}", high, least]


def _is_refused(candidate: Candidate, size: Size) -> bool:
    """Whether the vendor says that an image of this size is not accepted."""
    family = candidate.family()
    limits = family.limits if family else None
    if limits is None:
        return False
    by_side = limits.max_side is not None and max(size) > limits.max_side
    return by_side or (limits.max_pixels is not None and size[0] * size[1] > limits.max_pixels)


def _total(shape: PromptShape, drawn: Counter[Size]) -> int:
    return sum(shape.image_tokens(*size).expected * times for size, times in drawn.items())


def main() -> None:
    drawn = images()
    heads = [
        "model",
        "sent as they are",
        "sized by us",
        "pixels sent",
        "`--detail high`",
        f"`--max-image-tokens {WITHIN}`",
    ]
    rows = [heads, ["---"] * len(heads), *(row(name, drawn) for name in MODELS)]
    print("\n".join("| " + " | ".join(cells) + " |" for cells in rows))


if __name__ == "__main__":
    main()
