"""Request deduplication: of equal requests the leader is asked, and the followers wait for its answer."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace

import anyio

from pipeline.records import Follower, PreparedRequest

Waiting = tuple[PreparedRequest, anyio.Event]
"""A request without its body, and what is set when the answer of its leader is committed, or there is none."""


DIGITS = 6
"""Of a hash, in hexadecimal: they tell 16 million requests apart."""


class Hashes:
    """A set of hashes in 2 MB that may take one for another, and never misses one."""

    def __init__(self) -> None:
        self._bits = bytearray(1 << (4 * DIGITS - 3))

    def add(self, sha256: str) -> None:
        number = int(sha256[:DIGITS], 16)
        self._bits[number >> 3] |= 1 << (number & 7)

    def may_have(self, sha256: str) -> bool:
        number = int(sha256[:DIGITS], 16)
        return bool(self._bits[number >> 3] & 1 << (number & 7))


@dataclass(slots=True)
class _Lead:
    """A request that is being asked, or will be: whose it is, and what its followers wait for."""

    owner: tuple[str, str]
    is_asked: bool
    is_over: anyio.Event = field(default_factory=anyio.Event)


class Leaders:
    """The requests that are being asked now."""

    def __init__(
        self,
        lookup: Callable[[PreparedRequest], Awaitable[Follower | None]],
        *,
        is_on: bool,
        has_rows: bool = True,
        looks_up_all: bool = False,
    ) -> None:
        """`lookup` finds the committed answer to the same request. Without `is_on` no request has a leader.

        With `looks_up_all` every request is looked up all the same: it may have an answer of its own.
        Where OUT had no rows before (`has_rows`), only what this run asked before is looked up: a look-up takes a
        twentieth of the loop's time.
        """
        self.lookup = lookup
        self._is_on, self._looks_up_all = is_on, looks_up_all
        self._ended = None if has_rows else Hashes()
        self._leads: dict[str, _Lead] = {}

    def of(self, request: PreparedRequest) -> anyio.Event | None:
        """What is set when the answer to the same request of another record is committed, or there is none."""
        lead = self._leads.get(request.request_sha256)
        return None if lead is None or lead.owner == _owner(request) else lead.is_over

    def waiting(self, request: PreparedRequest) -> Waiting | None:
        """The request as one that waits; None where it has no leader."""
        leader = self.of(request)
        return None if leader is None else (replace(request, pieces=(b"",)), leader)

    async def lead(self, request: PreparedRequest) -> Follower | None:
        """Make the request a leader, unless its answer is committed already: that answer, for a follower."""
        if not self._is_on:
            return await self.lookup(request) if self._looks_up_all else None
        self.take_lead(request).is_asked = True
        if self._ended is not None and not self._ended.may_have(request.request_sha256):
            return None
        follower = await self.lookup(request)
        if follower is not None:
            self.release(request.request_sha256)
        return follower

    def take_lead(self, request: PreparedRequest) -> _Lead:
        """Make it the leader of what has none, before it is prepared again: the others go on waiting, for it."""
        lead = self._leads.get(request.request_sha256)
        if lead is None:
            lead = self._leads[request.request_sha256] = _Lead(_owner(request), is_asked=False)
        return lead

    def give_up(self, request: PreparedRequest) -> None:
        """It is not asked after all: its image is gone, or another one by now."""
        lead = self._leads.get(request.request_sha256)
        if lead is not None and lead.owner == _owner(request) and not lead.is_asked:
            self.release(request.request_sha256)

    def release(self, request_sha256: str | None) -> None:
        """The leader's answer is committed, or there is none."""
        if request_sha256 is not None and request_sha256 in self._leads:
            self._leads.pop(request_sha256).is_over.set()
            if self._ended is not None:
                self._ended.add(request_sha256)


def _owner(request: PreparedRequest) -> tuple[str, str]:
    return request.record.id, request.prompt_name
