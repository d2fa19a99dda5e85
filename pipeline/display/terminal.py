"""A block of lines at the bottom of a terminal that is drawn over itself, with other lines printed above it.

The cursor rests at the beginning of the block. So a Ctrl-C that the terminal echoes (`^C`) lands on a character that
the next drawing replaces, and a window that is made narrower, which wraps the lines, is cleared from there to its end.
Every drawing is one write, and overwrites without erasing first: nothing flickers, and nothing is half there.
"""

import os
import shutil
import textwrap
from collections.abc import Sequence
from threading import Lock
from typing import TextIO

from pipeline.display.colour import coloured, has_colour

LEAST_COLUMNS, USUAL_COLUMNS = 20, 80
_TO_START, _ERASE_LINE, _ERASE_BELOW = "\r", "\x1b[K", "\x1b[J"
_NO_WRAP, _WRAP = "\x1b[?7l", "\x1b[?7h"
"""Around a drawing: a window may be narrower already than the system says, and a wrapped line would be left behind."""


class Terminal:
    """One terminal. Lines and blocks may come from any thread."""

    def __init__(self, stream: TextIO) -> None:
        self._stream, self._lock = stream, Lock()
        self._shown: list[str] = []
        self._columns = 0
        self.has_colour = has_colour(stream)
        self.is_plain = not (stream.encoding or "").lower().startswith("utf")

    @property
    def width(self) -> int:
        """Columns that are written to; the last is left free, so that no line wraps."""
        try:
            columns = os.get_terminal_size(self._stream.fileno()).columns
        except (OSError, ValueError):
            columns = shutil.get_terminal_size().columns
        return max(LEAST_COLUMNS, (columns or USUAL_COLUMNS)) - 1

    def draw(self, lines: Sequence[str]) -> None:
        """Show the block with these lines, which are no longer than `width`."""
        with self._lock:
            self._write(self._drawn(lines))

    def print(self, line: str) -> None:
        """Show a line above the block, in colour, broken between words. It has been through `printable`."""
        with self._lock:
            shown = broken(line, self.width)
            text = coloured(shown) if self.has_colour else shown
            block, self._shown = self._shown, []
            self._write(f"{_TO_START}{_ERASE_BELOW}{text}\n{self._drawn(block) if block else ''}")

    def clear(self) -> None:
        """Take the block away."""
        with self._lock:
            if self._shown:
                self._shown = []
                self._write(f"{_TO_START}{_ERASE_BELOW}")

    def _drawn(self, lines: Sequence[str]) -> str:
        width = self.width
        is_new_size = width != self._columns or len(lines) < len(self._shown)
        self._columns, self._shown = width, [*lines]
        before = f"{_TO_START}{_ERASE_BELOW}" if is_new_size else _TO_START
        up = f"\x1b[{len(lines) - 1}A" if len(lines) > 1 else ""
        shown = "\n".join(f"{line}{_ERASE_LINE}" for line in lines)
        return f"{before}{_NO_WRAP}{shown}{_TO_START}{up}{_WRAP}"

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()


def broken(line: str, width: int) -> str:
    """A line as several of at most `width` characters, broken between words; a path or an address stays whole."""
    if len(line) <= width:
        return line
    indent = " " * (len(line) - len(line.lstrip()) + 2)
    lines = textwrap.wrap(line, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
    return "\n".join(lines)
