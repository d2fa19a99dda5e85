"""The counts of a run as pieces of text, the most important ones first, and lines of them that fit a width."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal

from pipeline.display.colour import BOLD, DIM, GREEN, RED, YELLOW, styled
from pipeline.display.outlook import Outlook
from pipeline.display.pace import duration
from pipeline.engine.progress import dollars, short, with_unknown
from pipeline.engine.stats import RunStats
from pipeline.formatting import printable
from pipeline.records import Status

INDENT = "      "
"""Below the percentage."""
GAP = "  "
LEAST_BAR, MOST_BAR = 8, 60
"""Characters; a shorter bar shows nothing, and a longer one no more."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A few words of a line, with the style of each part."""

    parts: tuple[tuple[str, str], ...]

    @classmethod
    def of(cls, text: str, style: str = "") -> "Piece":
        return cls(((text, style),))

    @property
    def text(self) -> str:
        return "".join(text for text, _ in self.parts)

    def shown(self, *, colour: bool) -> str:
        return "".join(styled(text, style) for text, style in self.parts) if colour else self.text


def projected_usd(stats: RunStats) -> Decimal | None:
    """What the whole run comes to if the remaining rows cost as much as those so far; None where that is unknown."""
    if stats.total is None or not stats.asked or not stats.known_cost_usd:
        return None
    return round(stats.known_cost_usd / stats.asked * max(stats.asked, stats.total - stats.skipped), 6)


def work(stats: RunStats, outlook: Outlook) -> list[Piece]:
    """How fast it goes, or what it waits for; how many rows ended how."""
    speed = "starting" if outlook.per_s is None else f"{rate_text(outlook.per_s)} {stats.unit}s/s"
    refused = stats.by_status[Status.REFUSED]
    pieces = [
        Piece.of(printable(stats.waiting), YELLOW) if stats.waiting else Piece.of(speed),
        Piece.of(f"{stats.asked - stats.bad - refused:,} answered", GREEN),
    ]
    counts = [(stats.bad, "failed", RED), (stats.retried, "retried", ""), (stats.in_flight, "in flight", DIM)]
    counts.append((refused, "refused", YELLOW))
    return pieces + [Piece.of(f"{count:,} {what}", style) for count, what, style in counts if count]


def money(stats: RunStats) -> list[Piece]:
    """Dollars so far, projected and granted, and the tokens or pages that they are for."""
    cost, projected = stats.known_cost_usd, projected_usd(stats)
    text = "cost unknown" if cost is None else with_unknown(cost, stats.cost_unknown_usd)
    pieces = [Piece.of(text if projected is None else f"{text} of about {dollars(projected)}", BOLD)]
    if stats.granted_usd is not None:
        pieces.append(Piece.of(f"{dollars(stats.granted_usd)} granted"))
    if stats.pages and not stats.prompt_tokens:
        return [*pieces, Piece.of(f"{short(stats.pages)} pages")]
    if not (stats.prompt_tokens or stats.completion_tokens):
        return [*pieces, *([Piece.of("tokens unknown")] if stats.answered else [])]
    return [*pieces, Piece.of(f"{short(stats.prompt_tokens)} tokens in, {short(stats.completion_tokens)} out")]


def left(outlook: Outlook) -> list[Piece]:
    """`about 12 min left`, where that is known."""
    return [] if outlook.left_s is None else [Piece.of(f"{duration(outlook.left_s)} left", BOLD)]


def rate_text(rate: float) -> str:
    """Three digits: 0.48, 4.1, 120."""
    return f"{rate:.2f}" if rate < 1 else f"{rate:,.1f}" if rate < 100 else f"{rate:,.0f}"  # noqa: PLR2004 - as it says


def head(stats: RunStats, outlook: Outlook, width: int, *, is_plain: bool) -> list[Piece]:
    """Percentage, bar, rows, and the time left. Without a total there is neither percentage nor bar."""
    ends = left(outlook)
    if not stats.total:
        return [Piece.of(f"{stats.done:,} {stats.unit}s so far", BOLD), *ends]
    share = min(1.0, stats.done / stats.total)
    rows = Piece.of(f"{stats.done:,} of {stats.total:,} {stats.unit}s")
    percent = Piece.of(f"{int(100 * share):3d}%", BOLD)
    left_over = width - sum(len(piece.text) + len(GAP) for piece in (percent, rows, *ends))
    if left_over < LEAST_BAR:
        return [percent, rows, *ends]
    return [percent, _bar(share, min(left_over, MOST_BAR), "#." if is_plain else "━─"), rows, *ends]


def _bar(share: float, length: int, characters: str) -> Piece:
    filled = round(share * length)
    return Piece(((characters[0] * filled, GREEN), (characters[1] * (length - filled), DIM)))


def block(stats: RunStats, outlook: Outlook, width: int, *, colour: bool, is_plain: bool = False) -> list[str]:
    """Three lines of at most `width` characters each; `is_plain`: of ASCII only."""
    return [
        fitted(head(stats, outlook, width, is_plain=is_plain), width, colour=colour),
        fitted(work(stats, outlook), width, colour=colour, indent=INDENT),
        fitted(money(stats), width, colour=colour, indent=INDENT),
    ]


def fitted(pieces: Sequence[Piece], width: int, *, colour: bool, indent: str = "") -> str:
    """The pieces of a line as far as they fit; the first is cut where it alone is too long."""
    first, *others = pieces
    if len(indent) + len(first.text) > width:
        return (indent + first.text)[:width]
    line, used = indent + first.shown(colour=colour), len(indent) + len(first.text)
    for piece in others:
        used += len(GAP) + len(piece.text)
        if used > width:
            break
        line += GAP + piece.shown(colour=colour)
    return line


def joined(groups: Iterable[Sequence[Piece]]) -> str:
    """All pieces on one line, however long it is."""
    return GAP.join(piece.text for pieces in groups for piece in pieces)
