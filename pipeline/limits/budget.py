"""What a run may still spend: requests in flight are reserved at the most that they can cost.

Money is in nano-dollars, so that sums are exact.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace


@dataclass(frozen=True, slots=True)
class Amounts:
    """What a request takes of a budget, or the budget itself; None: not bounded, or not known."""

    nano_usd: int | None = None
    tokens: int | None = None
    requests: int | None = None

    def __add__(self, other: "Amounts") -> "Amounts":
        return Amounts(
            (self.nano_usd or 0) + (other.nano_usd or 0),
            (self.tokens or 0) + (other.tokens or 0),
            (self.requests or 0) + (other.requests or 0),
        )

    def __sub__(self, other: "Amounts") -> "Amounts":
        return Amounts(
            (self.nano_usd or 0) - (other.nano_usd or 0),
            (self.tokens or 0) - (other.tokens or 0),
            (self.requests or 0) - (other.requests or 0),
        )

    def times(self, number: int) -> "Amounts":
        return Amounts((self.nano_usd or 0) * number, (self.tokens or 0) * number, (self.requests or 0) * number)

    def exceeds(self, limit: "Amounts") -> str | None:
        """Which of them is beyond its limit."""
        for name in NAMES:
            most = getattr(limit, name)
            if most is not None and (getattr(self, name) or 0) > most:
                return name
        return None


@dataclass(slots=True)
class Budget:
    """Spent and reserved never exceed `limit`, as long as no request costs more than it reserved.

    What one did cost beyond that (a wrong token rule) makes the reservations after it larger.
    """

    limit: Amounts
    name: str = ""
    """What it bounds, for the message that it is used up."""
    spent: Amounts = field(default_factory=Amounts)
    reserved: Amounts = field(default_factory=Amounts)
    margin: float = 1.0
    """How many times its prediction a request has cost at most."""
    is_proven: bool = False
    """Whether something has been billed, or may have been: before, no prediction is tried."""

    def reservation(self, predicted: Amounts) -> Amounts:
        """What a request of this prediction reserves."""
        if self.margin == 1.0:
            return predicted
        return replace(
            predicted,
            nano_usd=None if predicted.nano_usd is None else int(predicted.nano_usd * self.margin) + 1,
            tokens=None if predicted.tokens is None else int(predicted.tokens * self.margin) + 1,
        )

    def lacks(self, need: Amounts) -> str | None:
        """What there is not enough of for this reservation; None where it fits."""
        return (self.spent + self.reserved + need).exceeds(self.limit)

    @property
    def waits_for_bill(self) -> bool:
        """Whether one request at a time is to be sent, so that a wrong prediction costs one answer, and not many."""
        return not self.is_proven and (self.limit.nano_usd is not None or self.limit.tokens is not None)

    def reserve(self, need: Amounts) -> None:
        self.reserved += need

    def settle(self, need: Amounts, cost: Amounts, predicted: Amounts) -> None:
        """The request of this prediction that had reserved `need` has cost `cost`."""
        self.reserved -= need
        self.spent += cost
        self.is_proven |= bool(cost.nano_usd or cost.tokens) or not (predicted.nano_usd or predicted.tokens)
        for name in ("nano_usd", "tokens"):
            expected, came = getattr(predicted, name), getattr(cost, name)
            # What is not billed costs what it reserved, which is rounded up: that teaches nothing.
            if expected and came and came > (getattr(need, name) or 0):
                self.margin = max(self.margin, came / expected)

    @property
    def left(self) -> Amounts:
        """What is neither spent nor reserved; None where it is not bounded."""
        used = self.spent + self.reserved
        return Amounts(*(_less(getattr(self.limit, name), getattr(used, name)) for name in NAMES))


NAMES = ("nano_usd", "tokens", "requests")


def leased(budgets: Sequence[Budget], wanted: Amounts, less: Amounts | None = None) -> Amounts:
    """`wanted`, of what any budget bounds, but no more than `less` and what they leave; None: no budget bounds it."""
    base = Amounts(0, 0, 0) if less is None else less
    bounded = []
    for name in NAMES:
        left = [amount for budget in budgets if (amount := getattr(budget.left, name)) is not None]
        bounded.append(min(getattr(wanted, name), getattr(base, name) + min(left)) if left else None)
    return Amounts(*bounded)


def _less(limit: int | None, used: int | None) -> int | None:
    return None if limit is None else max(0, limit - (used or 0))
