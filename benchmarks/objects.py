"""The files of a folder as the objects of a bucket, over as little of S3 as reading takes: lists and whole objects.

`python benchmarks/objects.py FOLDER` prints its address, and ends when standard input does. moto's server, which the
tests use, answers some 300 requests a second and would be what is measured.
"""

import asyncio
import sys
from pathlib import Path
from typing import cast
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

import uvloop

PAGE = 1000
_ENTRY = "<Contents><Key>{key}</Key><Size>{size}</Size><LastModified>2026-11-01T00:00:00.000Z</LastModified></Contents>"
_DATE = "Sun, 01 Nov 2026 00:00:00 GMT"


class Objects(asyncio.Protocol):
    """One connection. Requests have no body and come one after the other."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files, self.received = files, b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self.received += data
        while b"\r\n\r\n" in self.received:
            head, _, self.received = self.received.partition(b"\r\n\r\n")
            self.answer(urlsplit(head.split(b" ", 2)[1].decode()))

    def answer(self, target: SplitResult) -> None:
        query = parse_qs(target.query)
        key = unquote(target.path).lstrip("/").partition("/")[2]
        if "list-type" in query:
            after = query.get("continuation-token", [""])[0]
            self.send(self.listed(query.get("prefix", [""])[0], after))
        elif key in self.files:
            self.send(self.files[key])
        else:
            self.send(b"", "404 Not Found")

    def send(self, body: bytes, status: str = "200 OK") -> None:
        head = f'HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\nLast-Modified: {_DATE}\r\nETag: "1"\r\n\r\n'
        self.transport.writelines([head.encode(), body])

    def listed(self, prefix: str, after: str) -> bytes:
        keys = [key for key in sorted(self.files) if key.startswith(prefix) and key > after]
        page = keys[:PAGE]
        more = len(keys) > PAGE
        entries = "".join(_ENTRY.format(key=key, size=len(self.files[key])) for key in page)
        token = f"<NextContinuationToken>{page[-1]}</NextContinuationToken>" if more else ""
        found = f"<IsTruncated>{str(more).lower()}</IsTruncated>{token}{entries}"
        return f"<ListBucketResult>{found}</ListBucketResult>".encode()


async def serve(files: dict[str, bytes]) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Objects(files), "127.0.0.1", 0)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    uvloop.run(serve({path.name: path.read_bytes() for path in sorted(Path(sys.argv[1]).iterdir())}))
