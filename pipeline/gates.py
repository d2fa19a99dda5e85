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


class ThreadRoom:
    """The same for threads. A thread holds one reservation at a time, so none can wait for itself."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._used = 0
        self._changed = threading.Condition()

    @contextmanager
    def held(self, size: int) -> Iterator[None]:
        with self._changed:
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
