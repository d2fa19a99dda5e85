"""`vision-batch report`."""

from datetime import UTC, datetime
from pathlib import Path

import click

from pipeline.api.places import is_address, readable
from pipeline.api.places import named as of
from pipeline.cli.next_steps import named
from pipeline.cli.options import Option, command, out_argument
from pipeline.cli.output import show_lines
from pipeline.commands.report.report import CARDS, MOST_CARDS, NAME, lines, make_report

OPTIONS = (
    out_argument("A run may be at work on it."),
    Option(
        "--output",
        metavar="FILE.html",
        type=click.Path(path_type=Path),
        help="Write the report here. [default: OUT/report.html]",
    ),
    Option(
        "--cards",
        metavar="N",
        type=click.IntRange(0, MOST_CARDS),
        default=CARDS,
        show_default=True,
        help="Show N rows with their images; 0 leaves out rows and images.",
    ),
)


@command("report", OPTIONS)
def report(*, out: Path, output: Path | None, cards: int) -> int:
    """Write one HTML file with outcomes, cost, pace, failures and a gallery. It needs no network."""
    place = Path(NAME) if output is None and is_address(out) else output
    made = make_report(readable(out), place, now=datetime.now(UTC), cards=cards)
    show_lines(*lines(made), f"next: {named('view', of(out))}  (mark and correct answers, ask some again)")
    return 0
