"""Which files and folders below a root a pattern selects, one name at a time.

A state is what is left to match at some depth; a walk carries it down, so that a folder in which nothing can
match is never opened.
"""

import fnmatch
import os
import re
import unicodedata
from typing import Final, Protocol

State = frozenset[int]
START: Final[State] = frozenset({0})


class Pattern(Protocol):
    """Names are single components, as bytes decode with surrogate escapes."""

    def descend(self, state: State, name: str) -> State:
        """The state inside the folder `name`; empty where nothing below can match."""

    def accepts(self, state: State, name: str) -> bool:
        """Whether the file `name` is selected."""


class Everything:
    """All that is not hidden."""

    def descend(self, state: State, name: str) -> State:
        return frozenset() if name.startswith(".") else state

    def accepts(self, _state: State, name: str) -> bool:
        return not name.startswith(".")


class Glob:
    """`*`, `?` and `[...]` match inside one name, `**` any number of folders. A folder that matches counts whole.

    Hidden names match only where the pattern writes the dot. Case counts, on every system.
    """

    def __init__(self, components: list[str]) -> None:
        self._parts = [None if part == "**" else _Part(part) for part in components]
        self._end = len(components)

    def descend(self, state: State, name: str) -> State:
        name = unicodedata.normalize("NFC", name)
        hidden = name.startswith(".")
        below = set()
        for at in self._closed(state):
            part = self._parts[at] if at < self._end else None
            if part is None:
                # Inside `**`, or inside a folder that has matched: any depth is well.
                below |= set() if hidden else {at}
            elif part.matches(name, hidden=hidden):
                below.add(at + 1)
        return frozenset(below)

    def accepts(self, state: State, name: str) -> bool:
        name = unicodedata.normalize("NFC", name)
        hidden = name.startswith(".")
        for at in self._closed(state):
            part = self._parts[at] if at < self._end else None
            if part is None:
                if not hidden and at >= self._end - 1:
                    return True
            elif at == self._end - 1 and part.matches(name, hidden=hidden):
                return True
        return False

    def _closed(self, state: State) -> set[int]:
        """With every position that is reached by letting a `**` match no folder."""
        closed = set(state)
        for at in range(min(state), self._end):
            if at in closed and self._parts[at] is None:
                closed.add(at + 1)
        return closed if self._end in state else closed - {self._end}


class _Part:
    def __init__(self, text: str) -> None:
        self._regex = re.compile(fnmatch.translate(unicodedata.normalize("NFC", text)))
        self._names_hidden = text.startswith(".")

    def matches(self, name: str, *, hidden: bool) -> bool:
        return (self._names_hidden or not hidden) and self._regex.match(name) is not None


def split_glob(spec: str) -> tuple[str, Glob] | None:
    """The folder before the first component with a wildcard, as written, and the pattern below it.

    A component that exists under its own name is no wildcard: photographs lie in folders such as `2024 [best]`.
    None where there is no wildcard.
    """
    components = spec.split("/")
    for at, part in enumerate(components):
        if any(mark in part for mark in "*?[") and not os.path.lexists("/".join(components[: at + 1])):
            root = "/".join(components[:at]) or ("/" if at else "")
            return root, Glob([part for part in components[at:] if part])
    return None
