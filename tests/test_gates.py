"""Room in bytes: never exceeded, never lost, first come first served."""

import threading
from concurrent.futures import ThreadPoolExecutor

import anyio
import anyio.lowlevel
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.gates import Line, Room, ThreadRoom


async def _visits(sizes: list[int]) -> tuple[int, bool]:
    """The most that was inside at once, and whether what is larger than the room was always alone."""
    room, used, peak, alone = Room(100), 0, 0, True

    async def visit(size: int) -> None:
        nonlocal used, peak, alone
        async with room.held(size):
            used += size
            peak = max(peak, used)
            alone = alone and (size <= 100 or used == size)
            await anyio.lowlevel.checkpoint()
            used -= size

    async with anyio.create_task_group() as tasks:
        for size in sizes:
            tasks.start_soon(visit, size)
    assert used == 0
    return peak, alone


@settings(max_examples=50, deadline=None)
@given(sizes=st.lists(st.integers(0, 150), max_size=30))
def test_never_more_than_the_limit_is_inside(sizes: list[int]) -> None:
    """Whatever the sizes: at most the limit, or one visitor alone that is larger; all get in in the end."""
    peak, alone = anyio.run(_visits, sizes)
    assert peak <= max([100, *sizes])
    assert alone


async def test_first_come_first_served() -> None:
    """A small visitor does not overtake a large one that waits."""
    room, order = Room(10), list[str]()

    async def visit(name: str, size: int) -> None:
        async with room.held(size):
            order.append(name)

    async with anyio.create_task_group() as tasks, room.held(8):
        tasks.start_soon(visit, "large", 9)
        await anyio.wait_all_tasks_blocked()
        tasks.start_soon(visit, "small", 1)
        await anyio.wait_all_tasks_blocked()
        assert order == []
    assert order == ["large", "small"]


async def test_a_cancelled_visitor_gives_its_room_back() -> None:
    """Cancelled while waiting, or in the very moment of admission: nobody behind it waits for ever."""
    room = Room(10)
    for release_first in (False, True):
        async with anyio.create_task_group() as tasks:
            entered = anyio.Event()

            async def wait(size: int) -> None:
                async with room.held(size):
                    entered.set()  # noqa: B023 - the event of this round

            async with room.held(10):
                doomed = anyio.CancelScope()

                async def be_doomed() -> None:
                    with doomed:  # noqa: B023 - the scope of this round
                        await wait(10)

                tasks.start_soon(be_doomed)
                await anyio.wait_all_tasks_blocked()
                tasks.start_soon(wait, 10)
                await anyio.wait_all_tasks_blocked()
                if not release_first:
                    doomed.cancel()
                    await anyio.wait_all_tasks_blocked()
            if release_first:
                doomed.cancel()
            with anyio.fail_after(5):
                await entered.wait()


def test_threads_never_hold_more_than_the_limit() -> None:
    """Eight threads, room for two: the sum of what they hold stays within it, one larger than all enters alone."""
    room, lock = ThreadRoom(100), threading.Lock()
    used = peak = 0

    def visit(size: int) -> None:
        nonlocal used, peak
        with room.held(size):
            with lock:
                used += size
                peak = max(peak, used if used != size else min(size, 100))
            with lock:
                used -= size

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(visit, [50, 40, 300, 10, 100, 60] * 50, timeout=20))
    assert peak <= 100
    assert used == 0


@pytest.mark.parametrize("size", [0, 1, 10, 11])
async def test_an_empty_room_admits_anyone(size: int) -> None:
    """No image is so large that it can never be sent."""
    async with Room(10).held(size):
        pass


async def _served(orders: list[bool], cancelled: int | None = None) -> list[int]:
    """Who was served, of some that come while one is; `True` goes first."""
    line, served = Line(), list[int]()

    async def stand(number: int, goes_first: bool, scope: anyio.CancelScope) -> None:  # noqa: FBT001 - as in `orders`
        with scope:
            async with line.held(goes_first=goes_first):
                served.append(number)
                await anyio.lowlevel.checkpoint()

    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            async with line.held():
                scopes = [anyio.CancelScope() for _ in orders]
                for number, goes_first in enumerate(orders):
                    tasks.start_soon(stand, number, goes_first, scopes[number])
                await anyio.wait_all_tasks_blocked()
                assert line.has_first == any(orders)
                if cancelled is not None:
                    scopes[cancelled].cancel()
                    await anyio.wait_all_tasks_blocked()
            if cancelled == 0:  # and once more in the very moment in which it is called
                scopes[1].cancel()
    async with line.held():  # nobody is left
        return served


async def test_a_line_serves_in_order() -> None:
    """Those that go first, in their order, then the others in theirs."""
    assert await _served([False, True, False, True]) == [1, 3, 0, 2]


async def test_who_leaves_a_line_holds_up_nobody() -> None:
    """One goes while it waits: the rest are served. One that goes when it has just been called is served as well."""
    assert await _served([False, False, False, False], cancelled=2) == [0, 1, 3]
    assert await _served([False, False, False, False], cancelled=0) == [1, 2, 3]
