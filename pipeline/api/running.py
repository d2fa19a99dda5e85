"""Runs asynchronous work for blocking callers, and opens the endpoint that a call asks."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from typing import Any, TypeVar

import anyio

from pipeline.api.paths import PathLike
from pipeline.config.keywords import resolve
from pipeline.config.run_config import RunConfig
from pipeline.config.sections import Settings
from pipeline.emulator.child import child_emulator
from pipeline.engine.garbage import rare_searches
from pipeline.run.model import emulated, emulating

T = TypeVar("T")
EMULATED_MODEL = "gpt-4o"
"""The model whose token rule the emulator bills by where no model is named."""


def in_a_loop(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Runs `work` to its end, in a thread of its own where a loop is running already (a notebook)."""
    return _in_a_thread(work) if _is_in_a_loop() else _run(work)


def _run(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    with rare_searches():
        return anyio.run(work, backend_options={"use_uvloop": find_spec("uvloop") is not None})


def _is_in_a_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _in_a_thread(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Interrupting the caller cancels the work, which ends as after Ctrl-C; only then is the interrupt raised."""
    begun: Future[Callable[[], object]] = Future()

    async def cancellable() -> T:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        if task is not None:
            begun.set_result(lambda: loop.call_soon_threadsafe(task.cancel))
        return await work()

    interrupt: KeyboardInterrupt | None = None
    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(_run, cancellable)
        either: list[Future[Any]] = [begun, done]
        while not done.done():
            try:
                if interrupt is not None and begun in wait(either, return_when=FIRST_COMPLETED).done:
                    with suppress(RuntimeError):  # its loop is closed: it is over
                        begun.result()()
                wait([done])
            except KeyboardInterrupt as error:
                interrupt = error
    if interrupt is not None:
        raise interrupt
    return done.result()


@contextmanager
def opened_endpoint(config: PathLike | RunConfig | None, settings: Settings, *, emulator: bool) -> Iterator[RunConfig]:
    """Yields the resolved configuration. With `emulator`, an emulator runs for the length of the block."""
    if not emulator:
        yield resolve(config, settings)
        return
    resolved = resolve(config, with_model(settings, config))  # mistakes are reported before anything is started
    with child_emulator(emulating(resolved, resolved.rules_host)) as url:
        yield emulated(resolved, url, resolved.rules_host)


def with_model(settings: Settings, config: PathLike | RunConfig | None) -> Settings:
    """The settings with a model for the emulator, where none is named."""
    named = resolve(config, settings).request.model
    return {**settings, "model": named or EMULATED_MODEL}
