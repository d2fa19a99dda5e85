"""Room in bytes, which bounds the memory of a run whatever its images; and the line that requests stand in."""

import threading
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import anyio


class Room:
    """Bytes shared by coroutines, first come first served. What is larger than all of it enters alone."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._used = 0
        self._waiting: deque[tuple[int, anyio.Event]] = deque()

    @asynccontextmanager
    async def held(self, size: int) -> AsyncIterator[None]:
        await self.enter(size)
        try:
            yield
        finally:
            self.leave(size)

    def leave(self, size: int) -> None:
        self._used -= size
        self._admit()

    def resize(self, limit: int) -> None:
        """More room at once; less as soon as it is free."""
        if limit != self._limit:
            self._limit = limit
            self._admit()

    async def enter(self, size: int) -> None:
        """Until there is room. Whoever entered must leave."""
        if not self._waiting and self._fits(size):
            self._used += size
            return
        place = (size, anyio.Event())
        self._waiting.append(place)
        try:
            await place[1].wait()
        except BaseException:
            self._give_up(place)
            raise

    def _give_up(self, place: tuple[int, anyio.Event]) -> None:
        if place[1].is_set():  # admitted in the same moment: the room is given back
            self._used -= place[0]
        else:
            self._waiting.remove(place)
        self._admit()

    def _fits(self, size: int) -> bool:
        return self._used == 0 or self._used + size <= self._limit

    def _admit(self) -> None:
        while self._waiting and self._fits(self._waiting[0][0]):
            size, admitted = self._waiting.popleft()
            self._used += size
            admitted.set()


class GrowingRoom:
    """Bytes shared by coroutines that do not know how many they will need, first come first served.

    One at a time may go beyond the limit: else all could wait, each with a part of what it needs.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._used = 0
        self._beyond: Share | None = None
        self._waiting: deque[tuple[Share, int, anyio.Event]] = deque()

    @asynccontextmanager
    async def share(self) -> "AsyncIterator[Share]":
        share = Share(self)
        try:
            yield share
        finally:
            share.clear()

    async def add(self, share: "Share", size: int) -> None:
        if share is self._beyond or (not self._waiting and self._fits(size)):
            self._take(share, size)
            return
        place = (share, size, anyio.Event())
        self._waiting.append(place)
        try:
            await place[2].wait()
        finally:
            if not place[2].is_set():
                self._waiting.remove(place)
                self._admit()

    def remove(self, share: "Share") -> None:
        self._used -= share.size
        if share is self._beyond:
            self._beyond = None
        self._admit()

    def _fits(self, size: int) -> bool:
        return self._beyond is None or self._used + size <= self._limit

    def _take(self, share: "Share", size: int) -> None:
        self._used += size
        share.size += size
        if self._used > self._limit:
            self._beyond = self._beyond or share

    def _admit(self) -> None:
        while self._waiting and self._fits(self._waiting[0][1]):
            share, size, admitted = self._waiting.popleft()
            self._take(share, size)
            admitted.set()


class Share:
    """What one coroutine holds of a `GrowingRoom`."""

    def __init__(self, room: GrowingRoom) -> None:
        self._room = room
        self.size = 0

    async def grow(self, size: int) -> None:
        """By `size` bytes, as soon as there is room for them."""
        await self._room.add(self, size)

    def clear(self) -> None:
        """Nothing is held any more."""
        self._room.remove(self)
        self.size = 0


class ThreadRoom:
    """`Room` for threads. A thread holds one reservation at a time, so none can wait for itself."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._used = 0
        self._first = threading.Lock()
        self._changed = threading.Condition()

    @contextmanager
    def held(self, size: int) -> Iterator[None]:
        # One waits for room, the others for that one: small ones do not keep a large one out for ever.
        with self._first, self._changed:
            self._changed.wait_for(lambda: self._used == 0 or self._used + size <= self._limit)
            self._used += size
        try:
            yield
        finally:
            with self._changed:
                self._used -= size
                self._changed.notify_all()


class Line:
    """One at a time, first come first served; those that `go first` before all others."""

    def __init__(self) -> None:
        self._is_held = False
        self._first: deque[anyio.Event] = deque()
        self._others: deque[anyio.Event] = deque()

    @property
    def has_first(self) -> bool:
        """Whether somebody waits whom the others let pass."""
        return bool(self._first)

    @asynccontextmanager
    async def held(self, *, goes_first: bool = False, again: bool = False) -> AsyncIterator[None]:
        """`again`: it was its turn already, and it let somebody pass."""
        if self._is_held:
            await self._wait(self._first if goes_first else self._others, again=again)
        self._is_held = True
        try:
            yield
        finally:
            self._leave()

    async def _wait(self, line: deque[anyio.Event], *, again: bool) -> None:
        turn = anyio.Event()
        line.appendleft(turn) if again else line.append(turn)
        try:
            await turn.wait()
        except BaseException:
            if turn.is_set():
                self._leave()
            else:
                line.remove(turn)
            raise

    def _leave(self) -> None:
        """The next one's turn; between the two nobody else can step in."""
        following = self._first or self._others
        self._is_held = bool(following)
        if following:
            following.popleft().set()
