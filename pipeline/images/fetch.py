"""Fetches images over HTTP: a whole image for a run, its beginning for an estimate."""

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from http import HTTPStatus
from typing import Final, TypeVar

import aiohttp
import anyio
from yarl import URL

from pipeline.errors import ErrorKind
from pipeline.formatting import printable
from pipeline.http.errors import failure_of
from pipeline.http.values import retry_after
from pipeline.images.locate import too_large
from pipeline.records import Failure, Grow
from pipeline.redaction.addresses import public_url

T = TypeVar("T")

HEAD_TIMEOUT_S: Final = 15.0
"""Of one request for the beginning of an image."""
_SENDABLE: Final = re.compile(r"[!-~]+")
"""What an address may consist of without any further quoting."""
_CHUNK_BYTES: Final = 1 << 16
_SHOWN_CHARACTERS: Final = 200
_PHRASES: Final = {status.value: status.phrase for status in HTTPStatus}
_GONE: Final = frozenset({HTTPStatus.NOT_FOUND, HTTPStatus.GONE})
_WEB_PAGES: Final = frozenset({"text/html", "application/xhtml+xml"})
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
    session: aiohttp.ClientSession, url: str, max_bytes: int, proxy: str | None = None, *, grow: Grow = _unbounded
) -> bytes | Failure:
    """One attempt to fetch an image; at most `max_bytes`, plus what one read brings, are ever in memory.

    `session` brings the timeouts and must carry no credentials of the endpoint: the host is anybody's. `grow` is
    called with every number of bytes that arrives, and the next ones are read when it returns; that time does not
    count against the host's timeout.
    """
    with anyio.CancelScope() as limit:
        limit.deadline = anyio.current_time() + (session.timeout.total or float("inf"))

        async def wait_for_bytes(size: int) -> None:
            began = anyio.current_time()
            await grow(size)
            limit.deadline += anyio.current_time() - began

        of = session.timeout
        timeout = aiohttp.ClientTimeout(connect=of.connect, sock_connect=of.sock_connect, sock_read=of.sock_read)
        found = await _get(
            session, url, lambda response: _body(response, max_bytes, wait_for_bytes), proxy=proxy, timeout=timeout
        )
        return replace(found, message=f"{_shown(url)}: {found.message}") if isinstance(found, Failure) else found
    return Failure(kind=ErrorKind.FETCH_FAILED, message=f"{_shown(url)}: no answer in time")


async def fetch_head(
    session: aiohttp.ClientSession, url: str, wanted: int, proxy: str | None = None
) -> tuple[bytes, int | None] | Failure:
    """One attempt at the first `wanted` bytes of an image, and its whole length where the server states it.

    A server that rejects ranges, or gives another one, is asked without: a run will fetch the image from it as well.
    """
    found = await _get_head(session, url, wanted, proxy, {"Range": f"bytes=0-{wanted - 1}"})
    if isinstance(found, Failure) and found.status in _NO_RANGES:
        return await _get_head(session, url, wanted, proxy, {})
    return found


async def _get(
    session: aiohttp.ClientSession,
    url: str,
    read: Callable[[aiohttp.ClientResponse], Awaitable[T | Failure]],
    *,
    proxy: str | None,
    timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109 - aiohttp's own
    headers: Mapping[str, str] | None = None,
) -> T | Failure:
    """One GET. The failure's message does not repeat the address, which may be signed."""
    if url.partition(":")[0].lower() not in {"http", "https"}:
        return Failure(kind=ErrorKind.IMAGE_UNSUPPORTED, message="only http and https are fetched")
    try:
        # An address that is already quoted is sent as it is: a signature covers every character.
        target = URL(url, encoded=_SENDABLE.fullmatch(url) is not None)
        async with session.get(target, headers=headers, proxy=proxy, timeout=timeout) as response:
            if response.status >= HTTPStatus.MULTIPLE_CHOICES:
                return _status_failure(response)
            return await read(response)
    except (aiohttp.InvalidURL, ValueError):
        return Failure(kind=ErrorKind.IMAGE_UNSUPPORTED, message="not a valid address")
    except TimeoutError:
        return Failure(kind=ErrorKind.FETCH_FAILED, message="no answer in time")
    except (aiohttp.ClientError, OSError) as error:
        failure = failure_of(error, server="the host")
        if failure is None:
            raise
        return Failure(kind=ErrorKind.FETCH_FAILED, message=failure.message)


def _status_failure(response: aiohttp.ClientResponse) -> Failure:
    status = response.status
    return Failure(
        kind=ErrorKind.IMAGE_MISSING if status in _GONE else ErrorKind.FETCH_FAILED,
        message=f"HTTP {status} {_PHRASES.get(status, '')}".rstrip(),
        status=status,
        retry_after_s=retry_after(response.headers),
    )


async def _body(response: aiohttp.ClientResponse, max_bytes: int, grow: Grow) -> bytes | Failure:
    if response.content_type in _WEB_PAGES:
        return Failure(kind=ErrorKind.IMAGE_UNSUPPORTED, message="the address answered with a web page")
    declared = 0 if "Content-Encoding" in response.headers else response.content_length or 0
    if declared > max_bytes:
        return too_large(declared, max_bytes)
    data = bytearray()
    async for chunk in response.content.iter_chunked(_CHUNK_BYTES):
        await grow(len(chunk))
        data += chunk
        if len(data) > max_bytes:
            return too_large(None, max_bytes)
    return bytes(data) or Failure(kind=ErrorKind.IMAGE_UNREADABLE, message="the answer is empty")


async def _get_head(
    session: aiohttp.ClientSession, url: str, wanted: int, proxy: str | None, headers: Mapping[str, str]
) -> tuple[bytes, int | None] | Failure:
    async def read(response: aiohttp.ClientResponse) -> tuple[bytes, int | None] | Failure:
        if not response.headers.get("Content-Range", _FROM_START).strip().startswith(_FROM_START):
            status = HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE
            return Failure(kind=ErrorKind.FETCH_FAILED, message="another range than was asked for", status=status)
        return await _head(response, wanted), _length(response)

    timeout = aiohttp.ClientTimeout(total=HEAD_TIMEOUT_S)
    plain = {**headers, "Accept-Encoding": "identity"}
    return await _get(session, url, read, proxy=proxy, timeout=timeout, headers=plain)


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


def _shown(url: str) -> str:
    """An address without user name, password and query, at most 200 characters."""
    before, _, query = url.partition("#")[0].partition("?")
    address = printable(public_url(before))
    if len(address) > _SHOWN_CHARACTERS:
        address = address[: _SHOWN_CHARACTERS - 1] + "…"
    address += "?…" if query else ""
    return address.encode("utf-8", "backslashreplace").decode()  # JSON can name what no file and no address can hold
