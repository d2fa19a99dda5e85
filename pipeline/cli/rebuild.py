"""`vision-batch rebuild`."""

from pathlib import Path

import click

from pipeline.api import datasets
from pipeline.cli.options import JSON, Option, command
from pipeline.cli.output import show_json, show_lines
from pipeline.commands.rebuilt import rebuild_lines

OPTIONS = (
    click.Argument(
        ["out"],
        metavar="OUT",
        type=click.Path(path_type=Path),
        help="An output directory whose ledger is lost or damaged.",
    ),
    Option(
        "drop_unreadable",
        "--drop-unreadable",
        is_flag=True,
        help="Keep the readable rows of damaged parts; their other records are asked again.",
    ),
    JSON,
)


@command("rebuild", OPTIONS)
def rebuild(*, out: Path, drop_unreadable: bool, as_json: bool) -> int:
    """Make a new ledger from the parts and from the readable pages of the old one, which is kept aside."""
    report = datasets.rebuild(out, drop_unreadable=drop_unreadable)
    if as_json:
        show_json(report.as_dict())
    else:
        show_lines(*rebuild_lines(out, report))
    return 0
