"""Clients as processes: started, watched, killed."""

import contextlib
import json
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import IO

from common import JOB_TIMEOUT_S, clean_environment
from harness import Measured, descendants

SAMPLE_S = 0.1
QUIET = {
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "TELEMETRY_ENABLED": "false",
    "CURATOR_DISABLE_RICH_DISPLAY": "1",
    "DAFT_PROGRESS_BAR": "0",
    "DAFT_ANALYTICS_ENABLED": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
}
"""Clients neither report nor draw anything, and download no lists."""


class FailedError(Exception):
    """A client did not do its work; the message is the last that it said."""


def offline(python: Path) -> dict[str, str]:
    """The environment of a client: the tables of tokens that Curator would download come with LiteLLM."""
    tables = python.parents[1].glob("lib/python*/site-packages/litellm/litellm_core_utils/tokenizers")
    return clean_environment() | QUIET | {"TIKTOKEN_CACHE_DIR": str(next(tables, ""))}


@contextlib.contextmanager
def started(command: Sequence[str], output: IO[str] | None = None) -> Iterator["subprocess.Popen[str]"]:
    """The client, in a session of its own; nothing of it lives on."""
    process = subprocess.Popen(
        list(command),
        stdout=output or subprocess.DEVNULL,
        stderr=subprocess.STDOUT if output else subprocess.DEVNULL,
        text=True,
        env=offline(Path(command[0])),
        cwd=tempfile.gettempdir(),
        start_new_session=True,
    )
    try:
        yield process
    finally:
        kill_tree(process)


def kill_tree(process: "subprocess.Popen[str]") -> None:
    """Kill -9 a client with all that it started."""
    for pid in [*descendants(process.pid), process.pid]:
        if pid != process.pid or process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    process.wait()


def run(command: Sequence[str]) -> Measured:
    """What the client measured of itself, with the peak memory of all its processes together."""
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as output:
        with started(command, output) as process:
            peak_mb = _watched(process)
        output.seek(0)
        lines = output.read().splitlines()
    for line in reversed(lines):
        if line.startswith('{"images"'):
            found = Measured(**json.loads(line))
            return replace(found, peak_mb=max(found.peak_mb, peak_mb))
    said = [line.strip() for line in lines if line.strip()]
    raise FailedError(said[-1] if said else f"exit code {process.returncode}")


def _watched(process: "subprocess.Popen[str]") -> float:
    """The most memory (MB) that several processes of the client held at a time; 0 if there was but one."""
    peak, deadline = 0.0, time.monotonic() + JOB_TIMEOUT_S
    while process.poll() is None:
        if time.monotonic() > deadline:
            raise FailedError(f"not done after {JOB_TIMEOUT_S} s")
        started_too = list(descendants(process.pid))
        if started_too:
            peak = max(peak, sum(map(proportional_mb, [process.pid, *started_too])))
        time.sleep(SAMPLE_S)
    return peak


def proportional_mb(pid: int) -> float:
    """Memory of a process in which what several share counts once."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0.0
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024
