"""Money: exact sums in nano-dollars, the resolution of the column `cost_usd`."""

from dataclasses import dataclass, field
from decimal import Decimal

from pipeline.records import Usage

_NANO = Decimal("1e-9")


_LARGEST_COST = Decimal(10**9)


def nano_usd(cost_usd: Decimal | None) -> int | None:
    """A sum of money in nano-dollars, rounded half to even; None where it is unknown or no amount at all."""
    if cost_usd is None or not cost_usd.is_finite() or abs(cost_usd) >= _LARGEST_COST:
        return None
    return int(cost_usd.quantize(_NANO).scaleb(9))


def usd(nano: int) -> Decimal:
    return Decimal(nano).scaleb(-9)


def known_cost(cost_usd: Decimal, unknown_usd: Decimal, *, is_unknown: bool) -> Decimal | None:
    """A sum of money to show; None where some of it is unknown, and neither a part nor a bound is known."""
    return None if is_unknown and not cost_usd and not unknown_usd else cost_usd


def usd_text(amount: Decimal | None) -> str | None:
    """Money as JSON holds it: all digits, never `0E-9`."""
    if amount is None:
        return None
    return f"{amount:f}" if amount else "0"


def add_costs(a: Decimal | None, b: Decimal | None) -> Decimal | None:
    if a is None or b is None:
        return a if b is None else b
    return a + b


@dataclass(frozen=True, slots=True, kw_only=True)
class Bill:
    """What attempts have cost."""

    attempts: int = 1
    usage: Usage = field(default_factory=Usage)
    cost_usd: Decimal | None = None

    def __add__(self, other: "Bill") -> "Bill":
        return Bill(
            attempts=self.attempts + other.attempts,
            usage=self.usage + other.usage,
            cost_usd=add_costs(self.cost_usd, other.cost_usd),
        )
