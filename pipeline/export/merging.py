"""What becomes of a text file that may be there already: a pure decision."""

import re
from dataclasses import dataclass
from typing import Final

from pipeline.export.captions import one_line
from pipeline.export.options import IfExists
from pipeline.export.report import Reason

_ENDS: Final = tuple(".,;:!?")
"""A text that ends so goes on after a blank; others after a comma, as lists of tags do."""


@dataclass(frozen=True, slots=True)
class Write:
    """The file gets this text."""

    text: str


UNCHANGED: Final = "unchanged"
"""The file is as it should be."""
Merged = Write | Reason | str


def merged(mode: IfExists, there: str | None, text: str, added: str | None) -> Merged:
    """The file's new text, UNCHANGED, or why it is left alone.

    `there` is what the file holds (None: no file), `added` what an earlier export of these rows has put into it.
    """
    held = None if there is None else one_line(there)
    if held == text:
        return UNCHANGED
    if not held or mode == "overwrite" or (mode == "error" and held == added):
        return Write(text)
    if mode in {"error", "skip"}:
        return Reason.EXISTS
    if added is not None:
        return _replaced(held, added, text)
    return _extended(held, text, is_after=mode == "append")


def _extended(held: str, text: str, *, is_after: bool) -> Merged:
    if any(held.endswith(f"{gap}{text}") if is_after else held.startswith(f"{text}{gap}") for gap in (", ", " ")):
        return UNCHANGED  # a crash came before it was noted, or the note is lost
    return Write(joined(held, text) if is_after else joined(text, held))


def joined(first: str, second: str) -> str:
    """Two texts as one."""
    return f"{first} {second}" if first.endswith(_ENDS) else f"{first}, {second}"


def _replaced(held: str, added: str, text: str) -> Merged:
    """The file with the new text in place of the one that was added."""
    found = re.search(rf"(?<!\w){re.escape(added)}(?!\w)", held)
    if found is None:
        return Reason.EDITED
    if added == text:
        return UNCHANGED
    return Write(held[: found.start()] + text + held[found.end() :])
