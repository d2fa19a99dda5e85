"""ByteSemaphore in bytes: never exceeded, never lost, first come first served."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import anyio
import anyio.lowlevel
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.engine.semaphores import ByteSemaphore, GrowingByteSemaphore, ThreadByteSemaphore
from pipeline.engine.threads import Threads, stop_clock


async def _visits(sizes: list[int]) -> tuple[int, bool]:
    """The most that was inside at once, and whether what is larger than the room was always alone."""
    room, used, peak, alone = ByteSemaphore(100), 0, 0, True

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
    room, order = ByteSemaphore(10), list[str]()

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


async def test_a_cancelled_waiter_gives_its_bytes_back() -> None:
    """Cancelled while waiting, or in the very moment of admission: no task behind it waits for ever."""
    room = ByteSemaphore(10)
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
    room, lock = ThreadByteSemaphore(100), threading.Lock()
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
async def test_an_unused_semaphore_admits_any_size(size: int) -> None:
    """No image is so large that it can never be sent."""
    async with ByteSemaphore(10).held(size):
        pass


async def _growth(needs: list[int]) -> tuple[int, int]:
    """The most that was held at once, and what is held when all have what they need."""
    room, used, peak = GrowingByteSemaphore(100), 0, 0

    async def fetch(need: int) -> None:
        nonlocal used, peak
        async with room.share() as share:
            for _ in range(need):
                await share.grow(10)
                used += 10
                peak = max(peak, used)
                await anyio.lowlevel.checkpoint()
            used -= share.size

    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            for need in needs:
                tasks.start_soon(fetch, need)
    async with room.share() as share:
        await share.grow(100)
    return peak, used


@settings(max_examples=30, deadline=None)
@given(needs=st.lists(st.integers(0, 30), max_size=20))
def test_what_grows_never_waits_for_itself(needs: list[int]) -> None:
    """Whatever each turns out to need, all get it: at most one is beyond the limit, by what it needs itself."""
    peak, left = anyio.run(_growth, needs)
    assert peak <= 100 + 10 * max(needs, default=0)
    assert left == 0


async def test_one_that_gives_up_waiting_takes_nothing() -> None:
    """A fetch that is cancelled while it waits for room leaves it to the others."""
    room = GrowingByteSemaphore(10)
    async with room.share() as held, anyio.create_task_group() as tasks:
        await held.grow(10)
        async with room.share() as beyond:
            await beyond.grow(1)

            async def wait() -> None:
                async with room.share() as share:
                    await share.grow(5)

            tasks.start_soon(wait)
            await anyio.wait_all_tasks_blocked()
            tasks.cancel_scope.cancel()
        assert held.size == 10


def test_a_large_one_is_not_passed_over_for_ever() -> None:
    """In threads too: what comes after one that waits for room waits behind it."""
    room, order = ThreadByteSemaphore(10), list[str]()

    def visit(name: str, size: int) -> None:
        with room.held(size):
            order.append(name)

    with ThreadPoolExecutor(2) as pool:
        with room.held(8):
            large = pool.submit(visit, "large", 9)
            while room._first.acquire(blocking=False):  # until it waits
                room._first.release()
            small = pool.submit(visit, "small", 1)
            assert order == []
        large.result(20)
        small.result(20)
    assert order == ["large", "small"]


def test_a_thread_that_waits_for_bytes_is_not_stuck() -> None:
    """One has a bound of its own and takes long; the one behind it waits, and is not given up for that."""
    room, now, holds, done = ThreadByteSemaphore(10), [0.0], threading.Event(), threading.Event()

    def long() -> str:
        with room.held(10):
            stop_clock()
            holds.set()
            done.wait(20)
        return "long"

    def short() -> str:
        with room.held(1):
            return "short"

    async def both() -> list[str]:
        with Threads("test", 2, now=lambda: now[0]) as threads:
            first = threads.call(long)
            holds.wait(20)
            second = threads.call(short)
            while room._first.acquire(blocking=False):  # until it waits
                room._first.release()
            now[0] = 1000.0
            threads.replace_stuck(120.0)
            done.set()
            return [await first, await second]

    assert asyncio.run(both()) == ["long", "short"]
