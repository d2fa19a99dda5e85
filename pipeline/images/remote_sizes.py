"""The size of a remote image from the beginning of its file."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from pipeline.http.image_hosts import ImageHosts
from pipeline.images.fetch import fetch_head
from pipeline.images.probe import HEAD_BYTES, MOST_REMOTE_BYTES, ImageSize, Sized, WholeDocument, size_from
from pipeline.images.sampling import ONE, Sampling
from pipeline.limits.fetching import fetch_retry_s
from pipeline.records import Failure

REMOTE_BYTES = 1 << 16
"""Fetched first; where these do not hold the size, `MOST_REMOTE_BYTES` are."""
TRIES = 3
MOST_WAIT_S = 30.0
"""An estimate does not wait for a host that asks for more."""


@dataclass(frozen=True, slots=True)
class SizeUnknown:
    """A remote image that gave no size for a reason that may pass, or not soon enough: a run may well send it."""

    reason: str


async def fetch_beginning(
    hosts: ImageHosts,
    url: str,
    *,
    is_trusted: bool = False,
    sampling: Sampling = ONE,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    rand: Callable[[], float] = random.random,
) -> tuple[Sized | SizeUnknown, bytes]:
    """The upright size of a remote image, and the bytes that show it: its first 64 KB, or its first megabyte.

    What fails for a reason that may pass is tried three times, as far apart as the host asks, up to 30 s. Of a server
    that ignores the range no more is read. `is_trusted`: the host may be private.
    """
    for wanted in (REMOTE_BYTES, MOST_REMOTE_BYTES):
        head = await _fetched(hosts, url, wanted, is_trusted=is_trusted, sleep=sleep, rand=rand)
        if isinstance(head, Failure | SizeUnknown):
            return head, b""
        data, file_bytes = head
        reach = _Reach(data)
        found = size_from(data[:HEAD_BYTES], reach.read, file_bytes, sampling)
        if isinstance(found, ImageSize | WholeDocument) or len(data) < wanted or not reach.is_passed:
            return found, data
    return SizeUnknown(f"its size stands behind the first {MOST_REMOTE_BYTES >> 20} MB"), b""


async def _fetched(
    hosts: ImageHosts,
    url: str,
    wanted: int,
    *,
    is_trusted: bool,
    sleep: Callable[[float], Awaitable[None]],
    rand: Callable[[], float],
) -> tuple[bytes, int | None] | SizeUnknown | Failure:
    failures = 0
    while isinstance(head := await fetch_head(hosts, url, wanted, is_trusted=is_trusted), Failure):
        failures += 1
        if fetch_retry_s(head, 0, max_failures=1, max_wait_s=float("inf"), rand=0) is None:
            return head
        wait_s = fetch_retry_s(head, failures, max_failures=TRIES, max_wait_s=MOST_WAIT_S, rand=rand())
        if wait_s is None:
            return SizeUnknown(head.message)
        await sleep(wait_s)
    return head


class _Reach:
    """The beginning of a file, which notices where more of it was wanted."""

    def __init__(self, data: bytes) -> None:
        self._data, self.is_passed = data, False

    def read(self, at: int, count: int) -> bytes:
        self.is_passed = self.is_passed or at + count > len(self._data)
        return self._data[at : at + count]
