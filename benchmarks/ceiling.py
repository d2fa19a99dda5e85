"""What the endpoint of the benchmarks itself can answer: a minimal client that only writes and counts.

`python benchmarks/ceiling.py [--seconds 2] [--slots 64] [--body-kb 100]`. The client is a process beside it, so that
the figure is the least of both, on the cores that this machine has.
"""

import argparse
import asyncio
from typing import cast
from urllib.parse import urlsplit

import uvloop
from common import endpoint


class Caller(asyncio.Protocol):
    """One connection that posts the same bytes again as soon as an answer has come."""

    def __init__(self, request: bytes, answer_bytes: int) -> None:
        self.request = request
        self.answer_bytes = answer_bytes
        self.received = 0
        self.answers = 0
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        self.received += len(data)
        if self.received >= self.answer_bytes and self.transport is not None:
            self.received -= self.answer_bytes
            self.answers += 1
            self.transport.write(self.request)


async def _measured(base_url: str, slots: int, seconds: float, body: bytes) -> float:
    from server import ANSWER  # noqa: PLC0415 - a script beside this one

    address = urlsplit(base_url)
    head = f"POST {address.path}/chat/completions HTTP/1.1\r\nHost: here\r\nContent-Length: {len(body)}\r\n\r\n"
    loop = asyncio.get_running_loop()
    callers = []
    for _ in range(slots):
        transport, caller = await loop.create_connection(
            lambda: Caller(head.encode() + body, len(ANSWER)), str(address.hostname), int(address.port or 0)
        )
        callers.append((transport, caller))
    began, before = loop.time(), sum(caller.answers for _, caller in callers)
    await asyncio.sleep(seconds)
    rate = (sum(caller.answers for _, caller in callers) - before) / (loop.time() - began)
    for transport, _ in callers:
        transport.abort()
    return rate


def ceiling(slots: int, seconds: float, body_kb: int = 100) -> float:
    """Requests a second."""
    with endpoint(1) as base_url:
        return uvloop.run(_measured(base_url, slots, seconds, b"x" * (1024 * body_kb)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--slots", type=int, default=64)
    parser.add_argument("--body-kb", type=int, default=100)
    given = parser.parse_args()
    print(f"the endpoint answers {ceiling(given.slots, given.seconds, given.body_kb):,.0f} requests/s")


if __name__ == "__main__":
    main()
