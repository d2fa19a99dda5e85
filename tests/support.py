"""What several tests use."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.request import urlopen

Command = Callable[..., tuple[int, str, str]]
"""The fixture `command`: `vision-batch` in this process -> exit code, standard output, standard error."""
MakeImage = Callable[..., Path]
"""The fixture `make_image`: `make_image("a/b.jpg", 640, 480, seed=1)`."""


def unstamped(log: str) -> list[str]:
    """Lines of a log without their times: `2026-11-22T07:35:06Z note: x` is `note: x`."""
    return [re.sub(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ ", "", line) for line in log.splitlines()]


def emulator_get(url: str, path: str) -> Any:
    """JSON that the emulator tells about itself: `emulator_get(url, "stats")["requests"]`."""
    with urlopen(f"{url.removesuffix('/v1')}/emulator/{path}", timeout=10) as response:  # noqa: S310 - loopback
        return json.load(response)


def ends_within(process: "subprocess.Popen[str] | subprocess.Popen[bytes]", wait_s: float) -> bool:
    """Wait for a process, for so long."""
    try:
        process.wait(wait_s)
    except subprocess.TimeoutExpired:
        return False
    return True


ROOT = Path(__file__).parents[1]
UNPRIVILEGED = """
import contextlib, json, os, sys
from pipeline.cli.app import main

def command(arguments):
    sys.argv = ["vision-batch", *arguments]
    main()

*rehearsals, arguments = json.loads(sys.argv[1])
kept = os.dup(1), os.dup(2)
for stream in (1, 2):
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
for rehearsal in rehearsals:
    with contextlib.suppress(SystemExit):
        command(rehearsal)
for stream in (1, 2):
    os.dup2(kept[stream - 1], stream)
if os.geteuid() == 0:
    os.setgroups([])
    os.setegid(65534)
    os.seteuid(65534)
command(arguments)
"""


def unprivileged(*arguments: str, cwd: Path, rehearsals: Sequence[Sequence[str]]) -> subprocess.CompletedProcess[str]:
    """`vision-batch ARGUMENTS` in `cwd` by a user who may not write everywhere, as root may. Name paths from `cwd`.

    The source tree and Python may lie where only root may enter: what the command imports as it goes on must be
    imported before the privileges are given up. The `rehearsals` do so, as root and unseen: commands that end well, and
    with the same kind of error.
    """
    code = json.dumps([*rehearsals, arguments])
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", UNPRIVILEGED, code]
    return subprocess.run(command, cwd=cwd, env=environ, capture_output=True, text=True, check=False)
