"""How many requests go at once when a pause is over, at an endpoint that has refused and tells no limit.

Were all slots let loose as soon as the first request is answered, an endpoint that grants one at a time would
refuse all the others, pause after pause. Twice what it granted between the last two pauses go at once, and two more
for each answer: where there is room, that is everything after a few answers.
"""

from dataclasses import dataclass

ALL = float("inf")


@dataclass(slots=True)
class Surge:
    """Counts requests and answers from one pause to the next; no time is in it."""

    room: float = ALL
    """Requests that may still be sent; below one, none before an answer."""
    _granted: int = 0

    def sent(self) -> None:
        self.room -= 1

    def answered(self) -> None:
        self._granted += 1
        self.room += 2

    def refused(self) -> None:
        """A pause begins."""
        self.room, self._granted = max(1, 2 * self._granted), 0
