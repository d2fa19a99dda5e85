"""`vision-batch status`."""

from pathlib import Path

import click

from pipeline.api import datasets
from pipeline.cli.options import JSON, Option, command
from pipeline.cli.output import show_json, show_lines
from pipeline.commands.status import lines
from pipeline.errors import ResourceError

OPTIONS = (
    click.Argument(
        ["out"],
        metavar="OUT",
        type=click.Path(path_type=Path),
        help="An output directory. A run may be at work on it.",
    ),
    Option(
        "check",
        "--check",
        is_flag=True,
        help="Exit with 1 while any record has no answer, and with 5 where data/ is damaged.",
    ),
    Option(
        "verify",
        "--verify",
        is_flag=True,
        help="Read every part and verify its checksums; exit with 5 where one is damaged.",
    ),
    JSON,
)


@command("status", OPTIONS)
def status(*, out: Path, check: bool, verify: bool, as_json: bool) -> int:
    """Show what is done, failed and spent, predicted against billed tokens, and whether data/ is intact."""
    found = datasets.status(out, verify=verify)
    if as_json:
        show_json(found.as_dict())
    else:
        show_lines(*lines(found))
    is_damaged = (check or verify) and found.damage
    return ResourceError.exit_code if is_damaged else int(check and found.bad > 0)
