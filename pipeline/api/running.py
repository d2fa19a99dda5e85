"""Runs asynchronous work for blocking callers, and opens the endpoint that a call asks."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
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

    def run() -> T:
        with rare_searches():
            return anyio.run(work, backend_options={"use_uvloop": find_spec("uvloop") is not None})

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return run()
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(run).result()


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
