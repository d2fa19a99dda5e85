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
from select import select
from unittest.mock import patch

import pytest
from PIL import Image

from pipeline.api import estimates, running
from pipeline.cli import app, emulate
from pipeline.emulator.config import EmulatorConfig
from pipeline.emulator.server import RunningEmulator, serve
from pipeline.quiet import quiet_decoders
from tests import warm
from tests.support import ROOT

LONGEST_S = 90.0

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


def until(url: str, count: str, least: int, running: "subprocess.Popen[str] | warm.Running") -> None:
    """Wait until the emulator has counted as many (a field of `EmulatorStats`), or the process has ended."""
    child = _child()
    assert child.stdout is not None
    ended = os.pidfd_open(running.pid)
    try:
        _tell("wait", url, count, least)
        come, _, _ = select([child.stdout.fileno(), ended], [], [], LONGEST_S)
        if child.stdout.fileno() not in come:
            _tell("go on")
        _url()
    finally:
        os.close(ended)
    assert come, f"{count} has not become {least} in {LONGEST_S:g} s"


def _manage(*words: str) -> str:
    _tell(*words)
    return _url()


def _tell(*words: object) -> None:
    child = _child()
    assert child.stdin is not None
    child.stdin.write(json.dumps(words) + "\n")
    child.stdin.flush()


def _url() -> str:
    child = _child()
    assert child.stdout is not None
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
    """Lists of words come in as JSON: `start ARGUMENT ...`, `stop URL` and `wait URL COUNT LEAST`, each answered with
    the URL, a wait once there are as many; `go on` ends one that has not been answered, and answers it.
    """
    quiet_decoders()
    warnings.simplefilter("error", Image.DecompressionBombWarning)
    running: dict[str, tuple[RunningEmulator, AsyncExitStack]] = {}
    waits: list[asyncio.Task[None]] = []
    while line := await asyncio.to_thread(sys.stdin.readline):
        what, *args = json.loads(line)
        if what == "start":
            stack = AsyncExitStack()
            emulator = await stack.enter_async_context(serve(_configured(args)))
            running[emulator.url] = emulator, stack
            _answer(emulator.url)
        elif what == "stop":
            await running.pop(args[0])[1].aclose()
            _answer(args[0])
        elif what == "wait":
            waits = [asyncio.create_task(_counted(running[args[0]][0], *args[1:]))]
        elif waits[0].cancel():  # else it has been answered
            _answer("no longer")


async def _counted(emulator: RunningEmulator, count: str, least: int) -> None:
    await emulator.stats.until(lambda: getattr(emulator.stats, count) >= least)
    _answer(emulator.url)


def _answer(url: str) -> None:
    print(url, flush=True)  # noqa: T201 - to the test


if __name__ == "__main__":
    asyncio.run(_serve_many())
