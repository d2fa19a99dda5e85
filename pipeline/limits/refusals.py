"""Whether a record that is refused again and again (429) is to blame itself: by what came of the others meanwhile."""

from typing import NamedTuple

MOST = 10
"""Rate limits that one record meets before it fails, while others are answered at their first try."""
MOST_TIMES = 10
"""So many times more, at most, where others are refused as well."""
FEW, ALONE_AMONG = 4, 16
"""So many are enough beside so many answers, where nobody who was refused has been answered since."""
FORGIVING = 0.25
"""Refusals for each answer, of records that were answered in the end, from which on it is no wonder to be refused."""


class Refusals(NamedTuple):
    """What an endpoint has done: since the run began, or since it first refused one record."""

    refusals: int = 0
    forgiven: int = 0
    """Refusals of records that were answered in the end."""
    answers: int = 0

    def since(self, before: "Refusals") -> "Refusals":
        return Refusals(*(now - then for now, then in zip(self, before, strict=True)))

    @property
    def are_usual(self) -> bool:
        """Whether it is no wonder to be refused."""
        return self.forgiven >= FORGIVING * max(1, self.answers)

    def blame(self, own: int) -> bool:
        """Whether a record that was refused `own` times, with answers to others between, is not wanted there."""
        if not self.forgiven and self.answers >= ALONE_AMONG:
            return own >= FEW
        others = max(0, self.refusals - own) / max(1, self.answers)
        return own >= int(MOST * min(MOST_TIMES, 1 + others))
