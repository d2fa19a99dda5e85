"""`vision-batch status`."""

import io
import shlex
import sys
from pathlib import Path

from pipeline.api import outputs
from pipeline.api.places import readable
from pipeline.cli.next_steps import named
from pipeline.cli.options import JSON, Option, command, out_argument
from pipeline.cli.output import note, show, show_json, show_lines
from pipeline.cloud.stores import out_address
from pipeline.commands.status import OutStatus, lines
from pipeline.errors import ResourceError
from pipeline.formatting import printable
from pipeline.redaction.addresses import public_text
from pipeline.store.again import run_words
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
        show_lines(*lines(found), *_next(found))
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
    listed = text.getvalue().rstrip("\n")
    show(listed)
    if "\n" not in listed and sys.stdout.isatty():
        note("every row is ok")


def _next(found: OutStatus) -> list[str]:
    """After a look at OUT: the run that goes on, what failed, or the answers; nothing while a run is at work."""
    out = Path(found.out)
    if found.state == "running" or found.damage:
        return []
    if found.state in {"stopped", "killed"}:
        # In a bucket its settings are in no file here; of a selection its words are not kept.
        if out_address(found.out) is not None or found.is_selection:
            return []
        limit = [] if found.limit is None else ["--limit", str(found.limit)]
        more = [] if found.used_up is None else ["--set", f"{found.used_up}=N"]
        again = public_text(printable(shlex.join([*run_words(out, is_rehearsal=found.is_rehearsal), *limit, *more])))
        return [f"next: {again}  (goes on where it stopped{', with a larger budget' if more else ''})"]
    if found.bad:
        return [f"next: {named('status', found.out, '--failures')}  (the reason of each row without an answer)"]
    return [f"next: {named('view', found.out)}  (look at the answers beside their images)"] if found.records else []
