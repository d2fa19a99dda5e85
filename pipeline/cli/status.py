"""`vision-batch status`."""

import io
from pathlib import Path

from pipeline.api import outputs
from pipeline.api.places import readable
from pipeline.cli.options import JSON, Option, command, out_argument
from pipeline.cli.output import show, show_json, show_lines
from pipeline.commands.status import lines
from pipeline.errors import ResourceError
from pipeline.store.failures import failures as list_failures
from pipeline.store.failures import write_csv

OPTIONS = (
    out_argument("A run may be at work on it."),
    Option(
        "--check",
        is_flag=True,
        help="Exit with 1 while any record has no answer, and with 5 where data/ is damaged.",
    ),
    Option(
        "--failures",
        is_flag=True,
        help="List the rows that are not ok, with the reason of each, as CSV (as JSON with --json).",
    ),
    Option(
        "--verify",
        is_flag=True,
        help="Read every part and verify its checksums; exit with 5 where one is damaged.",
    ),
    JSON,
)


@command("status", OPTIONS)
def status(*, out: Path, check: bool, failures: bool, verify: bool, as_json: bool) -> int:
    """Show what is done, failed and spent, predicted against billed tokens, and whether data/ is intact."""
    found = outputs.status(out, verify=verify)
    if failures:
        show_failures(readable(out), as_json=as_json)
    elif as_json:
        show_json(found.as_dict())
    else:
        show_lines(*lines(found))
    is_damaged = (check or verify) and found.damage
    return ResourceError.exit_code if is_damaged else int(check and found.bad > 0)


def show_failures(out: Path, *, as_json: bool) -> None:
    """`--failures`"""
    rows = list_failures(out)
    if as_json:
        show_json(
            [{**row, "answered_at": None if (at := row["answered_at"]) is None else at.isoformat()} for row in rows]
        )
        return
    text = io.StringIO()
    write_csv(rows, text)
    show(text.getvalue().rstrip("\n"))
