"""How many tokens a model spends on reasoning before it answers.

No provider publishes that: the figures are of the size that users report for questions about one picture.
"""

from math import exp, log
from typing import Final

from pipeline.catalogue import Family
from pipeline.emulator.chance import draw
from pipeline.emulator.parameters import Options

SPENT: Final = {
    "none": (0, 0),
    "minimal": (8, 384),
    "low": (64, 1_536),
    "medium": (256, 6_144),
    "high": (1_024, 20_000),
    "xhigh": (2_048, 40_000),
    "max": (4_096, 80_000),
}
"""The least and the most tokens at an effort; most answers take little of it."""
WITHOUT_EFFORT: Final = (128, 3_500)
"""Of models that always reason and have no effort to choose."""


def reasoning_tokens(family: Family | None, model: str, options: Options, seed: int, images: bytes) -> int:
    """The tokens of one request: the same for the same model, effort and images."""
    if family is None or family.reasoning is None or not options.thinks:
        return 0
    effort = options.effort or family.reasoning.default
    least, most = WITHOUT_EFFORT if effort is None else SPENT.get(effort, SPENT["medium"])
    if not least:
        return 0
    drawn = draw(seed, f"reasoning:{model}:{effort}", int.from_bytes(images))
    return round(least * exp(drawn * log(most / least)))
