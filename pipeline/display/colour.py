"""Colour on terminals: statuses, warnings, and the figure that matters. None with NO_COLOR, and none in a pipe."""

import os
import re
from typing import Final, TextIO

BOLD, DIM, RED, GREEN, YELLOW, CYAN = "1", "2", "31", "32", "33", "36"
"""Parameters of the escape sequence "select graphic rendition": the terminal's own palette, which its user can read."""

_STYLES: Final = (
    (re.compile(r"^(vision-batch|error)(?=: )"), RED),
    (re.compile(r"^(warning|note|damage in data/)(?=: )"), YELLOW),
    (re.compile(r"^(next|answer|prompt)(?=: )"), CYAN),
    (re.compile(r"(?<![\w.,])([1-9][\d,]* (?:failed|invalid))\b"), RED),
    (re.compile(r"(?<![\w.,])([1-9][\d,]* (?:refused|truncated))\b"), YELLOW),
    (re.compile(r"(?<![\w.,])([1-9][\d,]* ok)\b"), GREEN),
    (re.compile(r"(?<=cost: )(\$[\d.,]*\d)"), BOLD),
)
"""What stands out in a line for people, wherever it comes from."""


def has_colour(stream: TextIO | None) -> bool:
    """Whether colours may be written to `stream`: a terminal that can show them, and a user who wants them."""
    if stream is None or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return False
    try:
        return stream.isatty()
    except ValueError:  # closed
        return False


def styled(text: str, style: str) -> str:
    """`text` in a colour; "" leaves it as it is."""
    return f"\x1b[{style}m{text}\x1b[0m" if style else text


def coloured(text: str) -> str:
    """Lines for people with what matters in colour. They have been through `printable_lines`."""
    return "\n".join(map(_coloured, text.split("\n")))


def _coloured(line: str) -> str:
    for pattern, style in _STYLES:
        line = pattern.sub(lambda found, style=style: styled(found[1], style), line)  # type: ignore[misc] # bound early
    return line
