"""What an emulator has seen, counted exactly: the other side of every promise that a run makes."""

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from pipeline.emulator.billing import Bill
from pipeline.emulator.chat_request import SentImage, elided

KEPT_REQUESTS = 50
TIMELINE_S = 1200
"""How many seconds of the timeline are kept, of those in which anything happened."""
_SECRET_WORDS = ("authorization", "key", "token", "secret", "cookie")


@dataclass(slots=True)
class Second:
    """What was let in and refused in one second since the start."""

    requests: int = 0
    tokens: int = 0
    rate_limited: int = 0


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
    """429s of the limits; those that a fault made are in `faults`."""
    rate_limited_by: Counter[str] = field(default_factory=Counter)
    """The same by limit: `requests`, `tokens`, and `too_large` for requests beyond a whole minute's tokens."""
    tokens_admitted: int = 0
    """What was, or would have been, taken from a limit of tokens."""
    no_capacity: int = 0
    """Requests that their service tier had no capacity for."""
    in_outage: int = 0
    """Requests that met an outage."""
    queue_peak: int = 0
    """The most requests that waited for a worker at a time."""
    dropped: int = 0
    """Requests whose connection a fault reset."""
    aborted: int = 0
    """Requests whose client went away before the body had arrived."""
    in_flight: int = 0
    peak_concurrency: int = 0
    prompt_tokens: int = 0
    """As billed by the rules, also where the fault `wrong_usage` reported otherwise."""
    completion_tokens: int = 0
    pages: int = 0
    """Of OCR and OFR, as billed."""
    statuses: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    _images: set[bytes] = field(default_factory=set)
    _seconds: dict[int, Second] = field(default_factory=dict)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)
    """Set, and made anew, when requests arrive, queue, meet a fault or a limit, are billed and end."""

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
        self._change()
        try:
            yield self.requests
        finally:
            self.in_flight -= 1
            self._change()

    async def until(self, reached: Callable[[], bool]) -> None:
        """Wait until what requests have met makes this hold."""
        while not reached():
            await self._changed.wait()

    def _change(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    @property
    def timeline(self) -> list[dict[str, int]]:
        """The seconds in which anything happened, oldest first: `second`, `requests`, `tokens`, `rate_limited`."""
        newest = max(self._seconds, default=0)
        return [
            {"second": at, "requests": seen.requests, "tokens": seen.tokens, "rate_limited": seen.rate_limited}
            for at, seen in self._seconds.items()
            if at > newest - TIMELINE_S
        ]

    def second(self, at: int) -> Second:
        """What is counted of a second since the start."""
        seen = self._seconds.get(at)
        if seen is None:
            seen = self._seconds[at] = Second()
            if len(self._seconds) > TIMELINE_S:
                del self._seconds[min(self._seconds)]
        return seen

    def admit_tokens(self, tokens: int, at: int) -> None:
        """Count tokens that were let in, or by how many that is corrected."""
        self.tokens_admitted += tokens
        self.second(at).tokens += tokens

    def refuse(self, limit: str, at: int) -> None:
        """Count the 429 of a limit."""
        self.rate_limited += 1
        self.rate_limited_by[limit] += 1
        self.second(at).rate_limited += 1
        self._change()

    def meet(self, fault: str) -> None:
        """Count a fault."""
        self.faults[fault] += 1
        self._change()

    def queue(self, waiting: int) -> None:
        """Count how many requests wait for a worker now."""
        if waiting > self.queue_peak:
            self.queue_peak = waiting
            self._change()

    def charge(self, bill: Bill, choices: int, image_hashes: Iterable[bytes]) -> None:
        """Count an answer that was made."""
        self.answered += 1
        self.billed += choices
        self.prompt_tokens += bill.prompt_tokens
        self.completion_tokens += bill.completion_tokens
        self.pages += bill.pages
        self._images.update(image_hashes)
        self._change()

    def clear(self) -> None:
        """Begin anew; what is in flight stays counted."""
        flying = self.in_flight
        self._change()
        fresh = EmulatorStats(requests=flying, in_flight=flying, peak_concurrency=flying)
        for name in self.__slots__:
            if name != "_changed":
                setattr(self, name, getattr(fresh, name))

    def as_dict(self) -> dict[str, Any]:
        """The counts as JSON."""
        names = (name for name in self.__slots__ if not name.startswith("_"))
        return {name: getattr(self, name) for name in names} | {
            "distinct_images": self.distinct_images,
            "timeline": self.timeline,
        }


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
