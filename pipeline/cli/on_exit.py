"""`--on-exit CMD`: a command of the user's that learns how a run ended."""

import os
import signal
import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from pipeline.cloud.stores import out_address
from pipeline.engine.stats import RunSummary
from pipeline.money import usd_text
from pipeline.records import Status
from pipeline.store.outdir import RUNS_NAME

LONGEST_S = 60.0
"""It ends the process no later: a night must not hang on a message that cannot be sent."""
PREFIX = "VISION_BATCH_"


def run_on_exit(
    command: str, out: str | Path | None, code: int, summary: RunSummary | None, complain: Callable[[str], None]
) -> None:
    """Runs `command` in a shell, with what came of the run in its environment. What goes wrong with it is said."""
    environment = {**os.environ, **environment_of(out, code, summary)}
    try:
        # What it prints is no part of our standard output, which may be JSON for a program.
        child = subprocess.Popen(command, shell=True, env=environment, stdout=2, start_new_session=True)  # noqa: S602 - the user's own
    except (OSError, ValueError) as error:
        complain(f"--on-exit: {error}")
        return
    try:
        ended = child.wait(LONGEST_S)
    except subprocess.TimeoutExpired:
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        complain(f"--on-exit: ended after {LONGEST_S:g} s; let it start longer work in the background")
        return
    if ended:
        complain(f"--on-exit: its exit code is {ended}; that of the run stays {code}")


def environment_of(out: str | Path | None, code: int, summary: RunSummary | None) -> dict[str, str]:
    """The variables of the command, without the prefix's repetition: OUT, the exit code, counts and cost."""
    values: dict[str, object] = {"EXIT_CODE": code, "OUT": _named(out) if out else ""}
    if summary is not None:
        values |= {
            "RUN_ID": summary.run_id,
            "SUMMARY": f"{_named(summary.out)}/{RUNS_NAME}/{summary.run_id}.json",
            "STOPPED": summary.stopped or "",
            "ASKED": summary.asked,
            "COST_USD": usd_text(summary.cost_usd) or "",
            **{status.name: summary.by_status.get(status, 0) for status in Status},
        }
    return {PREFIX + name: str(value).replace("\0", "") for name, value in values.items()}


def _named(out: str | Path) -> str:
    """An address as it is; of a directory the whole path."""
    return str(out_address(out) or Path(out).absolute())
