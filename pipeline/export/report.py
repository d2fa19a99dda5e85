"""What an export has done."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

_EXAMPLES = 20
"""Ids that are listed of each reason."""


class Reason(StrEnum):
    """Why a selected row was not exported."""

    NO_TEXT = "no text"
    IMAGE_MISSING = "image missing"
    IMAGE_CHANGED = "image changed"
    IMAGE_REMOTE = "image behind an address"
    IMAGE_UNREAD = "image that the run did not read"
    NO_FILE = "image that is no file of its own"
    NO_SHARD = "image that is in no shard of this machine"
    OTHER_CONFIGURATION = "asked with another configuration"
    NOT_REMADE = "request that cannot be made again"
    EXISTS = "text that was there already"
    EDITED = "text that was edited since"
    NOT_UTF8 = "text there that is not UTF-8"
    MARKED_BAD = "marked bad"


@dataclass(slots=True)
class Counts:
    """The rows of an export while it goes on."""

    left_out: Counter[Reason] = field(default_factory=Counter)
    examples: dict[Reason, list[str]] = field(default_factory=dict)
    unchanged: int = 0
    """Rows that an earlier export has written, and that are as they were."""
    notes: list[str] = field(default_factory=list)

    def leave_out(self, reason: Reason, row_id: str) -> None:
        """Count a row that is not exported."""
        self.left_out[reason] += 1
        named = self.examples.setdefault(reason, [])
        if len(named) < _EXAMPLES:
            named.append(row_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportReport:
    """What an export has written, and what it has left out."""

    out: str
    to: str
    dest: str | None
    """None where texts were written beside the images."""
    rows: int
    """Exported, those that were there already from an earlier export included."""
    unchanged: int
    """Of these: written by an earlier export, and left as they were."""
    left_out: Mapping[str, int]
    """Rows that were selected and not exported, by reason."""
    examples: Mapping[str, list[str]]
    """Some of their ids, by reason."""
    newest_run: str | None
    """The last run that is complete: `since=` for the next export."""
    notes: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Plain values, as `--json` prints them."""
        return asdict(self)
