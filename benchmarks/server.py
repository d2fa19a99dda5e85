"""An endpoint that costs as little as Python allows: it counts the body's bytes and answers always the same.

It reads Content-Length only (no chunked bodies) and decodes nothing; the emulator is the honest endpoint.
`GET /v1/models` lists one model; `GET /stats` tells requests and bytes, over all processes.
It ends when standard input does.
"""

import argparse
import asyncio
import json
import multiprocessing
import os
import signal
import socket
import sys
from collections.abc import Callable
from ctypes import Array, c_longlong
from typing import TypeAlias, cast

import uvloop

COMPLETION = {
    "id": "chatcmpl-benchmark",
    "object": "chat.completion",
    "created": 1750000000,
    "model": "gpt-4o-2024-08-06",
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "A landscape with hills under a clear sky.", "refusal": None},
            "finish_reason": "stop",
        }
    ],
    "usage": {"prompt_tokens": 783, "completion_tokens": 10, "total_tokens": 793},
}
MODELS = {"object": "list", "data": [{"id": "gpt-4o", "object": "model", "created": 0, "owned_by": "benchmark"}]}
READ_BYTES = 256 * 1024
BACKLOG = 1024
"""Connections that may wait: a client opens all of its own at once."""
REQUESTS, BYTES = 0, 1
"""Where the counts of a process stand, in its own stretch of the shared memory: no lock is needed."""

Counts: TypeAlias = "Array[c_longlong]"


def response(body: object) -> bytes:
    payload = json.dumps(body).encode()
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(payload)}\r\n\r\n"
    return head.encode() + payload


ANSWER = response(COMPLETION)


class Endpoint(asyncio.BufferedProtocol):
    """One connection. Requests come one after the other; a body is counted and forgotten."""

    def __init__(self, latency_s: float, counts: Counts, own: int, other: Callable[[bytes], bytes]) -> None:
        self.latency_s = latency_s
        self.counts = counts
        self.own = own
        self.other = other
        self.buffer = bytearray(READ_BYTES)
        self.head = b""
        self.body_left = 0
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no subclasses of asyncio's.
        self.transport = cast("asyncio.Transport", transport)

    def get_buffer(self, sizehint: int) -> bytearray:  # noqa: ARG002 - the name is asyncio's
        return self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.counts[self.own + BYTES] += nbytes
        start = min(self.body_left, nbytes)
        if start:
            self.body_left -= start
            if self.body_left:
                return
            self.answer(ANSWER)
        if self.head:
            joined = self.head + self.buffer[start:nbytes]
            self.read_requests(joined, 0, len(joined))
        else:
            self.read_requests(self.buffer, start, nbytes)

    def read_requests(self, data: bytes | bytearray, start: int, stop: int) -> None:
        """Take every request of `data[start:stop]`; what is left is a body to wait for, or the start of a head."""
        while (end := data.find(b"\r\n\r\n", start, stop)) >= 0:
            head, start = bytes(data[start:end]), end + 4
            length = content_length(head)
            taken = min(length, stop - start)
            start += taken
            if taken < length:
                self.body_left = length - taken
                break
            self.answer(ANSWER if head.startswith(b"POST") else self.other(head))
        self.head = bytes(data[start:stop])

    def answer(self, payload: bytes) -> None:
        if payload is not ANSWER:
            self.write(payload)
            return
        self.counts[self.own + REQUESTS] += 1
        if self.latency_s:
            asyncio.get_running_loop().call_later(self.latency_s, self.write, payload)
        else:
            self.write(payload)

    def write(self, payload: bytes) -> None:
        if self.transport is not None and not self.transport.is_closing():
            self.transport.write(payload)


def content_length(head: bytes) -> int:
    lower = head.lower()
    start = lower.find(b"\r\ncontent-length:")
    if start < 0:
        return 0
    return int(lower[start + 17 :].split(b"\r\n", 1)[0])


def stats(counts: Counts) -> dict[str, int]:
    values = list(counts)
    return {"requests": sum(values[REQUESTS::2]), "bytes": sum(values[BYTES::2])}


def serve(bound: socket.socket, latency_s: float, counts: Counts, number: int) -> None:
    """One process: its own listening socket on the shared port, until it is told to end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def other(head: bytes) -> bytes:
        return response(stats(counts) if head.startswith(b"GET /stats") else MODELS)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(
            lambda: Endpoint(latency_s, counts, 2 * number, other), sock=bound, backlog=BACKLOG
        )
        await server.serve_forever()

    uvloop.run(main())


def bind(port: int) -> socket.socket:
    bound = socket.socket()
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    bound.bind(("127.0.0.1", port))
    return bound


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--latency-ms", type=float, default=0.0)
    arguments = parser.parse_args()

    fork = multiprocessing.get_context("fork")
    counts = fork.RawArray(c_longlong, 2 * arguments.processes)
    first = bind(arguments.port)
    sockets = [first, *(bind(first.getsockname()[1]) for _ in range(arguments.processes - 1))]
    workers = [
        fork.Process(target=serve, args=(bound, arguments.latency_ms / 1000, counts, number), daemon=True)
        for number, bound in enumerate(sockets)
    ]
    for bound in sockets:
        bound.listen(BACKLOG)
    for worker in workers:
        worker.start()
    print(f"listening on http://127.0.0.1:{first.getsockname()[1]}/v1", flush=True)
    for bound in sockets:
        bound.close()
    try:
        while os.read(sys.stdin.fileno(), 4096):
            pass
    finally:
        for worker in workers:
            worker.terminate()


if __name__ == "__main__":
    main()
