"""`vision-batch rebuild`."""

from pathlib import Path

from pipeline.api import datasets
from pipeline.cli.options import JSON, Option, command, out_argument
from pipeline.cli.output import show_json, show_lines
from pipeline.commands.rebuilt import rebuild_lines

OPTIONS = (
    out_argument("Its ledger is lost or damaged."),
    Option(
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
