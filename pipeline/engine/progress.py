"""Numbers as people read them: counts, tokens, bytes, dollars."""

from collections.abc import Mapping
from decimal import Decimal

from pipeline.records import Status


def counted(number: int, what: str) -> str:
    """`1 image`, `2,300 images`."""
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"


def by_outcome(counts: Mapping[str, int]) -> str:
    """How many rows ended how, good ones first: `12 ok, 1 failed`."""
    return ", ".join(f"{counts[status]:,} {status}" for status in Status if counts.get(status))


def short(number: float) -> str:
    """1234567 -> 1.2M."""
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= limit:
            return f"{number / limit:.1f}{unit}"
    return f"{number:.0f}"


def bytes_text(number: float) -> str:
    """1234567 -> 1.2 MB."""
    text = short(number)
    return f"{text} B" if text[-1].isdigit() else f"{text[:-1]} {text[-1]}B"


def dollars(amount: Decimal | None) -> str:
    """Enough digits to tell two images apart: $0.0004, $12.34, $0.000012."""
    if amount is None:
        return "unknown"
    if amount >= 1:
        return f"${amount:,.2f}"
    return f"${amount:.{max(4, min(9, 1 - amount.adjusted())) if amount else 4}f}"


def exact(amount: Decimal) -> str:
    """All digits: a budget just above it has room for it."""
    return f"${amount.normalize():,f}"


def alike(*amounts: Decimal) -> tuple[str, ...]:
    """Amounts of one sentence, all digits of the finest: $0.0061625 beside $0.0100000."""
    digits = max(4, *(-int(amount.normalize().as_tuple().exponent) for amount in amounts))
    return tuple(f"${amount:,.{digits}f}" for amount in amounts)


def with_unknown(cost_usd: Decimal | None, unknown_usd: Decimal) -> str:
    """A cost, and the most that comes on top for requests whose bill is unknown."""
    if not unknown_usd:
        return dollars(cost_usd)
    unknown = f"up to {dollars(unknown_usd)} unknown"
    return f"{dollars(cost_usd)} and {unknown}" if cost_usd else unknown


def tokens_text(tokens: int | None) -> str:
    return "unknown" if tokens is None else f"{tokens:,}"
