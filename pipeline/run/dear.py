"""A note at the end of a run whose answers were billed for more than was predicted."""

from collections.abc import Callable
from contextlib import suppress
from typing import Final

from pipeline.errors import ResourceError
from pipeline.formatting import printable
from pipeline.store.dataset import Dataset
from pipeline.tokens.ratios import ratios_of

FAR: Final = 2.0
"""Times the prediction that are no chance, however few answers there are: a budget may be used up by them."""


def say_dear(dataset: Dataset, say: Callable[[str], None] | None) -> None:
    """By all answers of OUT. An estimate was as wrong, and a budget is reached as much sooner."""
    if say is None:
        return
    with suppress(ResourceError):
        for ratio in ratios_of(dataset.billed_by_model()):
            if (ratio.is_off and ratio.value > 1) or ratio.value > FAR:
                say(
                    f"note: {ratio.value:.2f} x the predicted prompt tokens of {printable(ratio.model)} are billed, "
                    f"over {ratio.answers:,} answers; `vision-batch status` says more"
                )
