"""Copies what lies at an address into a file, for callers without a loop of their own."""

import asyncio
import threading
from typing import BinaryIO, Final

import aiohttp

from pipeline.config.sections import EndpointConfig, SourceConfig
from pipeline.errors import ErrorKind
from pipeline.http.image_hosts import ImageHosts, counted
from pipeline.records import Failure

_CHUNK_BYTES: Final = 1 << 20
_LOOK_S: Final = 0.2
"""How often Ctrl-C is looked for."""


def download(url: str, file: BinaryIO, most_bytes: int, source: SourceConfig) -> str | Failure:
    """Write at most `most_bytes` into a file. Returns the answer's header `Link`, or what went wrong.

    The user has named the address: its host may be private. Raises OSError of the disk.
    """
    found: list[str | Failure | BaseException] = []

    def run() -> None:
        try:
            found.append(asyncio.run(_download(url, file, most_bytes, source)))
        except BaseException as error:  # noqa: BLE001 - raised below
            found.append(error)

    thread = threading.Thread(target=run, name="download", daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(_LOOK_S)
    if isinstance(found[0], BaseException):
        raise found[0]
    return found[0]


async def _download(url: str, file: BinaryIO, most_bytes: int, source: SourceConfig) -> str | Failure:
    async def read(response: aiohttp.ClientResponse) -> str | Failure:
        if response.content_type == "text/html":
            return Failure(kind=ErrorKind.IMAGE_UNSUPPORTED, message="the address answered with a web page")
        size = 0
        async for chunk in response.content.iter_chunked(_CHUNK_BYTES):
            size += len(chunk)
            if size > most_bytes:
                message = f"more than {most_bytes:,} bytes"
                return Failure(kind=ErrorKind.FETCH_TOO_LARGE, message=message)
            file.write(chunk)
        return response.headers.get("Link", "")

    async with ImageHosts(EndpointConfig(), source, 1) as hosts:
        times = hosts.timeout
        timeout = aiohttp.ClientTimeout(
            connect=times.connect, sock_connect=times.sock_connect, sock_read=times.sock_read
        )
        headers = {"Accept-Encoding": "identity"}
        return await hosts.get(url, read, timeout=timeout, headers=headers, is_trusted=True, uncounted=counted)
