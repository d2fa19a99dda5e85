"""Fetches images over HTTP: a whole image for a run, its beginning for an estimate."""

from collections.abc import Awaitable, Mapping
from dataclasses import replace
from http import HTTPStatus
from typing import Final

import aiohttp
import anyio

from pipeline.config.extras import CLOUD_SCHEMES
from pipeline.errors import ErrorKind
from pipeline.formatting import printable
from pipeline.http.image_hosts import ImageHosts, counted
from pipeline.images.locate import too_large
from pipeline.records import Failure, Grow
from pipeline.redaction.addresses import public_url

HEAD_TIMEOUT_S: Final = 15.0
"""Of one request for the beginning of an image."""
_CHUNK_BYTES: Final = 1 << 16
_SHOWN_CHARACTERS: Final = 200
_BLANKS: Final = b"\xef\xbb\xbf \t\r\n"
_WEB_PAGES: Final = frozenset({"text/html", "application/xhtml+xml"})
_AS_IT_IS: Final = {"Accept-Encoding": "identity"}
"""An image is compressed anyway, and of what is packed the end would not be checked."""
_FROM_START: Final = "bytes 0-"
_NO_RANGES: Final = frozenset(
    {
        HTTPStatus.BAD_REQUEST,
        HTTPStatus.METHOD_NOT_ALLOWED,
        HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE,
        HTTPStatus.NOT_IMPLEMENTED,
    }
)


async def _unbounded(_: int) -> None:
    """There is room for everything."""


async def fetch(
    hosts: ImageHosts, url: str, max_bytes: int, *, grow: Grow = _unbounded, is_trusted: bool = False
) -> bytes | Failure:
    """One attempt to fetch an image; at most `max_bytes`, plus what one read brings, are ever in memory.

    `grow` is called with every number of bytes that arrives, and the next ones are read when it returns; that time
    does not count against the host's. `is_trusted`: the host may be private.
    """
    of = hosts.timeout
    deadline = Deadline(of.total)
    found: bytes | Failure
    with deadline.scope:
        if is_object(url):
            found = await hosts.stores.fetch(
                url, max_bytes, grow, lambda size: too_large_to_fetch(size, max_bytes), deadline.uncounted
            )
        else:
            found = await hosts.get(
                url,
                lambda response: _body(response, max_bytes, lambda size: deadline.uncounted(grow(size))),
                timeout=aiohttp.ClientTimeout(connect=of.connect, sock_connect=of.sock_connect, sock_read=of.sock_read),
                headers=_AS_IT_IS,
                is_trusted=is_trusted,
                uncounted=deadline.uncounted,
            )
        return replace(found, message=f"{shown_address(url)}: {found.message}") if isinstance(found, Failure) else found
    return Failure(kind=ErrorKind.FETCH_TIMEOUT, message=f"{shown_address(url)}: not complete in time")


async def fetch_head(
    hosts: ImageHosts, url: str, wanted: int, *, is_trusted: bool = False
) -> tuple[bytes, int | None] | Failure:
    """One attempt at the first `wanted` bytes of an image, and its whole length where the server states it.

    A server that rejects ranges, or gives another one, is asked without: a run will fetch the image from it as well.
    """
    if is_object(url):
        return await hosts.stores.head(url, wanted)
    found = await _get_head(hosts, url, wanted, {"Range": f"bytes=0-{wanted - 1}"}, is_trusted=is_trusted)
    if isinstance(found, Failure) and found.status in _NO_RANGES:
        return await _get_head(hosts, url, wanted, {}, is_trusted=is_trusted)
    return found


def is_object(url: str) -> bool:
    """Whether an address is of an object store."""
    return url.partition("://")[0].lower() in CLOUD_SCHEMES


class Deadline:
    """The end of the time of one fetch: what is waited for on this machine does not count."""

    def __init__(self, total_s: float | None) -> None:
        self.scope = anyio.CancelScope(deadline=anyio.current_time() + (total_s or float("inf")))

    async def uncounted(self, waiting: Awaitable[None]) -> None:
        remaining = self.scope.deadline - anyio.current_time()
        self.scope.deadline = float("inf")
        try:
            await waiting
        finally:
            self.scope.deadline = anyio.current_time() + remaining


async def _body(response: aiohttp.ClientResponse, max_bytes: int, grow: Grow) -> bytes | Failure:
    is_page = response.content_type in _WEB_PAGES
    if response.status == HTTPStatus.PARTIAL_CONTENT:
        return Failure(kind=ErrorKind.FETCH_FAILED, message="the host sent a part of the image only")
    declared = 0 if "Content-Encoding" in response.headers else response.content_length or 0
    if declared > max_bytes and not is_page:
        return too_large_to_fetch(declared, max_bytes)
    data = bytearray()
    async for chunk in response.content.iter_chunked(_CHUNK_BYTES):
        if is_page and not data and chunk.lstrip(_BLANKS).startswith(b"<"):  # some hosts call every file a page
            return Failure(kind=ErrorKind.IMAGE_UNSUPPORTED, message="the address answered with a web page")
        await grow(len(chunk))
        data += chunk
        if len(data) > max_bytes:
            return too_large_to_fetch(None, max_bytes)
    return bytes(data) or Failure(kind=ErrorKind.IMAGE_EMPTY, message="the answer is empty")


def too_large_to_fetch(size: int | None, max_bytes: int) -> Failure:
    """An image of `size` bytes (None: unknown, and more than allowed) is not fetched."""
    return replace(too_large(size, max_bytes), kind=ErrorKind.FETCH_TOO_LARGE)


async def _get_head(
    hosts: ImageHosts, url: str, wanted: int, headers: Mapping[str, str], *, is_trusted: bool
) -> tuple[bytes, int | None] | Failure:
    async def read(response: aiohttp.ClientResponse) -> tuple[bytes, int | None] | Failure:
        if not response.headers.get("Content-Range", _FROM_START).strip().startswith(_FROM_START):
            status = HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE
            return Failure(kind=ErrorKind.FETCH_FAILED, message="another range than was asked for", status=status)
        return await _head(response, wanted), _length(response)

    timeout = aiohttp.ClientTimeout(total=HEAD_TIMEOUT_S)
    plain = {**headers, **_AS_IT_IS}
    return await hosts.get(url, read, timeout=timeout, headers=plain, is_trusted=is_trusted, uncounted=counted)


async def _head(response: aiohttp.ClientResponse, wanted: int) -> bytes:
    data = bytearray()
    async for chunk in response.content.iter_any():
        data += chunk
        if len(data) >= wanted:
            if response.status != HTTPStatus.PARTIAL_CONTENT:
                response.close()  # the rest is not read
            break
    return bytes(data[:wanted])


def _length(response: aiohttp.ClientResponse) -> int | None:
    if response.status == HTTPStatus.PARTIAL_CONTENT:
        stated = response.headers.get("Content-Range", "").rpartition("/")[2]
        return int(stated) if stated.isascii() and stated.isdecimal() else None
    return response.content_length


def shown_address(url: str) -> str:
    """An address without user name, password and query, at most 200 characters."""
    before, _, query = url.partition("#")[0].partition("?")
    address = printable(public_url(before))
    if len(address) > _SHOWN_CHARACTERS:
        address = address[: _SHOWN_CHARACTERS - 1] + "…"
    address += "?…" if query else ""
    return address.encode("utf-8", "backslashreplace").decode()  # JSON can name what no file and no address can hold
