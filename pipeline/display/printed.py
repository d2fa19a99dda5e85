"""What a hook or a library prints while a block is drawn stands above it, line by line."""

import sys
from collections.abc import Callable
from contextlib import ExitStack, redirect_stderr, redirect_stdout
from threading import Lock
from typing import Any, TextIO, cast

from pipeline.formatting import printable


class _Lines:
    """A stream that says whole lines. Everything but writing is that of the stream whose place it takes."""

    def __init__(self, stream: TextIO, say: Callable[[str], None]) -> None:
        self._stream, self._say, self._lock, self._begun = stream, say, Lock(), ""

    def write(self, text: str) -> int:
        with self._lock:
            *lines, self._begun = f"{self._begun}{text}".split("\n")
        for line in lines:
            self._say(printable(line))
        return len(text)

    def finish(self) -> None:
        """Say what has no line break at its end."""
        if self._begun:
            self.write("\n")

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - of the stream
        return getattr(self._stream, name)


def printed_above(say: Callable[[str], None]) -> ExitStack:
    """What is printed on terminals goes to `say` until this is closed; files and pipes stay as they are."""
    stack = ExitStack()
    for stream, redirect in ((sys.stdout, redirect_stdout), (sys.stderr, redirect_stderr)):
        if stream is not None and stream.isatty():
            lines = _Lines(stream, say)
            stack.callback(lines.finish)
            stack.enter_context(redirect(cast("TextIO", lines)))
    return stack
