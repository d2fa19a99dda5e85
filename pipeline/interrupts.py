"""Ctrl-C before a run has its own handlers: one line, exit code 130, at whatever it comes.

Imported before everything else, since the other imports take a second in which a traceback would be no answer.
"""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Final, NoReturn

COMMAND: Final = "vision-batch"


def watch_interrupts() -> None:
    """From here on Ctrl-C ends the process with one line; not where it is ignored, as under nohup."""
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, _leave)


def is_our_command() -> bool:
    """Whether this process is `vision-batch` or `python -m pipeline`, and not a program that imports the package."""
    words = sys.orig_argv
    as_module = "-m" in words and words[words.index("-m") + 1 :][:1] == ["pipeline"]
    return as_module or (bool(sys.argv) and Path(sys.argv[0]).name == COMMAND)


def _leave(number: int, _: FrameType | None) -> NoReturn:
    """At once, without unwinding: an exception could be swallowed by whatever code the signal meets.

    Nothing is lost by it. What is committed is safe from any kill, and a run that has requests in flight has replaced
    this handler by its own.
    """
    try:
        os.write(2, f"{COMMAND}: interrupted\n".encode())
    finally:
        os._exit(128 + number)


class Interruption(KeyboardInterrupt):
    """A signal asked for the end. `exit_code` is that of the process."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.exit_code = 128 + number


@contextmanager
def unwinding() -> Iterator[None]:
    """Let a signal raise Interruption here: files that are half written are removed. A second one ends at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}

    def stop(number: int, _: FrameType | None) -> NoReturn:
        for each in before:
            signal.signal(each, _leave)
        raise Interruption(number)

    for number, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
