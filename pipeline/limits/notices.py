"""What is said about an endpoint's pauses: its own words when it refuses first, and that it answers again."""

from dataclasses import dataclass, field

from pipeline.errors import ErrorKind
from pipeline.records import Failure
from pipeline.redaction.redactor import one_line

WORTH_S = 5.0
"""The end of a shorter pause is not said: its beginning was said just before."""
LASTING_S = 60.0
"""A refusal that lasts so long is said although an earlier one of its kind was."""


@dataclass(slots=True)
class Notices:
    """Lines about one endpoint. Times in seconds of one clock."""

    name: str
    _lines: list[str] = field(default_factory=list)
    _kinds: set[ErrorKind] = field(default_factory=set)
    """Kinds of refusal that were said."""
    _said: tuple[float, str] | None = None
    """Since when the refusal lasts that was said last, and its words; None once it is over."""

    def refused(self, now: float, since: float, failure: Failure, follows: str) -> None:
        """Sending pauses for a refusal that lasts since `since`: said once for each kind, and again where it lasts."""
        is_lasting = self._said is None and now - since >= LASTING_S
        if failure.kind in self._kinds and not is_lasting:
            return
        self._kinds.add(failure.kind)
        self._said = (since, in_words(failure))
        self._lines.append(f"{self.name} - {in_words(failure)} - {follows}")

    def pausing(self, now: float, since: float, failure: Failure, most_s: float, setting: str) -> None:
        """The same, with how long sending is tried again at most, and by which setting."""
        self.refused(now, since, failure, f"sending pauses and tries again, for at most {most_s:g} s ({setting})")

    def answered(self, now: float) -> None:
        """The refusal is over."""
        if self._said is not None and now - self._said[0] >= WORTH_S:
            since, words = self._said
            self._lines.append(f"{self.name} answers again after {now - since:,.0f} s - before: {words}")
        self._said = None

    def take(self) -> list[str]:
        """What has not been said yet."""
        lines, self._lines = self._lines, []
        return lines


def in_words(failure: Failure) -> str:
    """What the endpoint said, with its status, on one line."""
    is_named = failure.status is None or failure.message.startswith(f"HTTP {failure.status}")
    return one_line(failure.message if is_named else f"HTTP {failure.status}: {failure.message}")
