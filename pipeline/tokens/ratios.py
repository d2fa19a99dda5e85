"""What was billed against what was predicted, by model; and, where they differ, which published rule would fit.

Only answers count that took one request: what retries were billed says nothing about a rule.
"""

from collections.abc import Iterable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

from pipeline.tokens import TokenRule

ENOUGH: Final = 20
"""Answers from which on a ratio is judged."""
TOLERATED: Final = 0.02
NAMED: Final = 3
"""Families that one line names."""

_MARK: Final = "billed "
_NAME_CHARS: Final = 100
_UNNAMED: Final = "(not named)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ratio:
    """All answers of one model."""

    model: str
    answers: int
    prompt_tokens: int
    """As billed."""
    predicted_prompt_tokens: int

    @property
    def value(self) -> float:
        return self.prompt_tokens / self.predicted_prompt_tokens

    @property
    def is_off(self) -> bool:
        """Whether the rule no longer fits: more than 2 % off over 20 answers and more."""
        off = abs(self.prompt_tokens - self.predicted_prompt_tokens)
        return self.answers >= ENOUGH and off > TOLERATED * self.predicted_prompt_tokens


def count_billed(
    counts: MutableMapping[str, int], model: str | None, *, billed: int | None, predicted: int | None
) -> None:
    """Add one answer to the counts that a ledger keeps; nothing where one of the two is not known."""
    if billed is None or not predicted:
        return
    name = f"{_MARK}{(model or _UNNAMED)[:_NAME_CHARS]}"
    for what, amount in (("answers", 1), ("prompt_tokens", billed), ("predicted_prompt_tokens", predicted)):
        key = f"{name} {what}"
        counts[key] = counts.get(key, 0) + amount


def models_of(counts: Mapping[str, int]) -> dict[str, dict[str, int]]:
    """Model -> `answers`, `prompt_tokens`, `predicted_prompt_tokens`, from the counts of a ledger."""
    models: dict[str, dict[str, int]] = {}
    for key, amount in counts.items():
        if key.startswith(_MARK):
            model, _, what = key.removeprefix(_MARK).rpartition(" ")
            models.setdefault(model, {})[what] = amount
    return models


def ratios_of(models: Mapping[str, Mapping[str, int]]) -> tuple[Ratio, ...]:
    """The same as values, those with the most answers first."""
    found = (Ratio(model=model, **counts) for model, counts in models.items())
    known = (ratio for ratio in found if ratio.predicted_prompt_tokens)
    return tuple(sorted(known, key=lambda ratio: (-ratio.answers, ratio.model)))


@dataclass(frozen=True, slots=True)
class Billed:
    """One answer: the size that was sent, in pixels, and the prompt tokens that were billed."""

    width: int
    height: int
    prompt_tokens: int


@dataclass(frozen=True, slots=True)
class Fit:
    """A published rule, and how far the bills are from it."""

    rule: str
    families: tuple[str, ...]
    """Which have this rule, or one that gives the same here."""
    detail: str
    off: float
    """The mean distance, as a share of the mean bill."""

    def __str__(self) -> str:
        names = ", ".join(self.families[:NAMED]) + (", ..." if len(self.families) > NAMED else "")
        return f"{self.rule} (of {names}; detail {self.detail}), within {100 * self.off:.1f} %"


def fits(bills: Sequence[Billed], rules: Iterable[tuple[str, TokenRule]], *, detail: str, text: int) -> tuple[Fit, ...]:
    """Rules by which these bills come to within 2 %, the nearest first. `rules` are (family, rule).

    A rule is tried with the `detail` that was asked for, and with every other one that it has: some servers ignore
    it. How many tokens the text has is not known exactly; `text` is our estimate, and between half and twice of it
    whatever suits the rule best is granted.
    """
    counted: dict[tuple[int, ...], Fit] = {}
    for family, rule in rules:
        for tried in dict.fromkeys((detail, *rule.details)):
            images = tuple(rule.tokens(bill.width, bill.height, tried).expected for bill in bills)
            before = counted.get(images)
            families = (*before.families, family) if before else (family,)
            name, kind = (before.rule, before.detail) if before else (rule.name, tried)
            counted[images] = Fit(name, tuple(dict.fromkeys(families)), kind, _off(bills, images, text))
    near = [fit for fit in counted.values() if fit.off <= TOLERATED]
    return tuple(sorted(near, key=lambda fit: (round(fit.off, 3), fit.detail != detail)))


def _off(bills: Sequence[Billed], images: Sequence[int], text: int) -> float:
    left = [bill.prompt_tokens - image for bill, image in zip(bills, images, strict=True)]
    granted = min(2 * text, max(text / 2, median(left)))
    return sum(abs(rest - granted) for rest in left) / max(1, sum(bill.prompt_tokens for bill in bills))
