"""Emulators for tests: one child process holds many, each with a port and counts of its own.

A process for each would take a second of imports; the emulators themselves are what `vision-batch emulate` starts.
"""

import asyncio
import atexit
import json
import os
import subprocess
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from unittest.mock import patch

import pytest
from PIL import Image

from pipeline.api import estimates, running
from pipeline.cli import app, emulate
from pipeline.emulator.config import EmulatorConfig
from pipeline.emulator.server import serve
from pipeline.quiet import quiet_decoders
from tests.support import ROOT

_children: "list[subprocess.Popen[str]]" = []


@contextmanager
def emulator(args: Sequence[str] = ()) -> Iterator[str]:
    """An emulator on a free port for the length of the block -> its base URL. `args` are those of the command."""
    url = _manage("start", *args)
    try:
        yield url
    finally:
        _manage("stop", url)


@pytest.fixture
def shared_emulator(monkeypatch: pytest.MonkeyPatch) -> None:
    """`--emulator` within this process takes an emulator of these, which need no time to start."""
    for module in (running, estimates):
        monkeypatch.setattr(module, "child_emulator", emulator)


def _manage(*words: str) -> str:
    child = _child()
    if child.stdin is None or child.stdout is None:
        raise AssertionError("both are pipes")
    child.stdin.write(json.dumps(words) + "\n")
    child.stdin.flush()
    url = child.stdout.readline().strip()
    assert url, "the process that holds the emulators has ended"
    return url


def _child() -> "subprocess.Popen[str]":
    if not _children:
        command = [sys.executable, "-m", "tests.emulators"]
        environ = {**os.environ, "PYTHONPATH": str(ROOT)}
        pipe = subprocess.PIPE
        # Ctrl-C and the signals of a test are meant for others.
        child = subprocess.Popen(
            command, stdin=pipe, stdout=pipe, cwd=ROOT, env=environ, text=True, start_new_session=True
        )
        _children.append(child)
        atexit.register(child.communicate)
    return _children[0]


def _configured(args: Sequence[str]) -> EmulatorConfig:
    """What the command would listen with."""
    with patch.object(emulate, "run_forever") as run_forever:
        app.app(["emulate", *args], standalone_mode=False)
    config = run_forever.call_args.args[0]
    assert isinstance(config, EmulatorConfig)
    return config


async def _serve_many() -> None:
    """Lines of JSON come in, `["start", ARGUMENT, ...]` or `["stop", URL]`; each is answered with the URL."""
    quiet_decoders()
    warnings.simplefilter("error", Image.DecompressionBombWarning)
    running: dict[str, AsyncExitStack] = {}
    while line := await asyncio.to_thread(sys.stdin.readline):
        what, *args = json.loads(line)
        if what == "start":
            stack = AsyncExitStack()
            url = (await stack.enter_async_context(serve(_configured(args)))).url
            running[url] = stack
        else:
            url = args[0]
            await running.pop(url).aclose()
        print(url, flush=True)  # noqa: T201 - the answer


if __name__ == "__main__":
    asyncio.run(_serve_many())
