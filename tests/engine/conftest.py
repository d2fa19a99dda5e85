"""In these tests time is that of the loop, and takes none of the machine's."""

from asyncio import AbstractEventLoop
from collections.abc import Callable, Mapping

import pytest

from tests.jumping import JumpingLoop, WatchedThreads


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], AbstractEventLoop]]:
    return {"jumping": JumpingLoop}


@pytest.fixture(autouse=True)
def _watched_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.engine.engine.Threads", WatchedThreads)
