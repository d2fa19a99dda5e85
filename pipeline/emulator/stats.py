"""What an emulator has seen, counted exactly: the other side of every promise that a run makes."""

from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from pipeline.emulator.billing import Bill
from pipeline.emulator.chat_request import SentImage, elided

KEPT_REQUESTS = 50
_SECRET_WORDS = ("authorization", "key", "token", "secret", "cookie")


@dataclass(slots=True)
class EmulatorStats:
    """Counts of chat requests since the start, or the last reset.

    Once nothing is in flight, `requests` is the sum of `statuses`, `dropped` and `aborted`.
    `distinct_images` costs about 80 bytes an image.
    """

    requests: int = 0
    """Requests that arrived, whatever became of them."""
    answered: int = 0
    """Answers made and billed, of one or more choices, whether or not they reached the client."""
    billed: int = 0
    """Choices billed: `answered`, and more where a request asked for `n` of them."""
    rate_limited: int = 0
    """429s of the rate limit; those that a fault made are in `faults`."""
    dropped: int = 0
    """Requests whose connection a fault reset."""
    aborted: int = 0
    """Requests whose client went away before the body had arrived."""
    in_flight: int = 0
    peak_concurrency: int = 0
    prompt_tokens: int = 0
    """As billed by the rules, also where the fault `wrong_usage` reported otherwise."""
    completion_tokens: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    _images: set[bytes] = field(default_factory=set)

    @property
    def distinct_images(self) -> int:
        """Different images (by SHA-256 of their bytes) that were billed."""
        return len(self._images)

    @contextmanager
    def flight(self) -> Iterator[int]:
        """Count a request in flight, from its arrival on; yields its number, from 1."""
        self.requests += 1
        self.in_flight += 1
        self.peak_concurrency = max(self.peak_concurrency, self.in_flight)
        try:
            yield self.requests
        finally:
            self.in_flight -= 1

    def charge(self, bill: Bill, choices: int, image_hashes: Iterable[bytes]) -> None:
        """Count an answer that was made."""
        self.answered += 1
        self.billed += choices
        self.prompt_tokens += bill.prompt_tokens
        self.completion_tokens += bill.completion_tokens
        self._images.update(image_hashes)

    def clear(self) -> None:
        """Begin anew; what is in flight stays counted."""
        flying = self.in_flight
        fresh = EmulatorStats(requests=flying, in_flight=flying, peak_concurrency=flying)
        for name in self.__slots__:
            setattr(self, name, getattr(fresh, name))

    def as_dict(self) -> dict[str, Any]:
        """The counts as JSON."""
        names = (name for name in self.__slots__ if not name.startswith("_"))
        return {name: getattr(self, name) for name in names} | {"distinct_images": self.distinct_images}


def image_hash(image: SentImage) -> bytes:
    """8 bytes that stand for an image."""
    return sha256(image.data).digest()[:8]


@dataclass(slots=True)
class RequestLog:
    """The last requests whose JSON could be read, without image data and without keys."""

    _kept: deque[dict[str, Any]] = field(default_factory=lambda: deque(maxlen=KEPT_REQUESTS))

    def add(self, number: int, path: str, headers: Mapping[str, str], body: object) -> None:
        shown = {name: _masked(name, value) for name, value in headers.items()}
        self._kept.append({"number": number, "path": path, "headers": shown, "body": elided(body)})

    def last(self, count: int) -> list[dict[str, Any]]:
        """The newest `count` of them, oldest first."""
        return list(self._kept)[-count:] if count > 0 else []

    def clear(self) -> None:
        self._kept.clear()


def _masked(name: str, value: str) -> str:
    if not any(word in name.lower() for word in _SECRET_WORDS):
        return value
    return "Bearer ***" if value.lower().startswith("bearer ") else "***"
