"""A path or an address -> the bytes of one image, or the reason why there are none."""

import errno
import os
import re
import stat
from http import HTTPStatus
from urllib.parse import unquote_to_bytes

import aiohttp
import anyio
import pybase64
from yarl import URL

from pipeline.errors import ErrorKind, ResourceError
from pipeline.formatting import printable
from pipeline.records import Failure, Grow
from pipeline.redaction.addresses import public_url

_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_SENDABLE = re.compile(r"[!-~]+")
"""What an address may consist of without any further quoting."""

_CHUNK_BYTES = 1 << 16
_SHOWN_CHARACTERS = 200
_MISSING = frozenset({errno.ENOENT, errno.ENOTDIR})
_EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})
_PHRASES = {status.value: status.phrase for status in HTTPStatus}
_GONE = frozenset({HTTPStatus.NOT_FOUND, HTTPStatus.GONE})


def is_url(location: str) -> bool:
    """Whether `fetch` is the way to it. A `data:` URL needs no fetching: `read_file` takes it."""
    return _ADDRESS.match(location) is not None


def read_file(location: str, max_bytes: int) -> bytes | Failure:
    """The whole file, or what a `data:` URL holds. Blocks on the disk, never on a pipe or a device.

    Raises ResourceError where this process has no file handle or memory left, which is no image's fault.
    """
    if location.startswith("data:"):
        data = decode_data_url(location)
        return _too_large(len(data), max_bytes) if isinstance(data, bytes) and len(data) > max_bytes else data
    try:
        descriptor = os.open(location, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            return _read(descriptor, max_bytes)
        finally:
            os.close(descriptor)
    except OSError as error:
        return _os_failure(error)
    except ValueError:
        return Failure(kind=ErrorKind.IMAGE_UNREADABLE, message="the path holds characters that no file name has")


def length(location: str) -> int:
    """Bytes that reading it will take in memory; 0 where there is no file."""
    if location.startswith("data:"):
        return len(location)
    try:
        return os.stat(location).st_size  # noqa: PTH116 - the location may be no UTF-8
    except (OSError, ValueError):
        return 0


def decode_data_url(url: str) -> bytes | Failure:
    """The bytes in `data:[type][;base64],...` (RFC 2397)."""
    head, comma, payload = url.partition(",")
    if not comma:
        return Failure(kind=ErrorKind.IMAGE_UNREADABLE, message="the data: URL has no comma, so no content")
    try:
        data = unquote_to_bytes(payload) if "%" in payload else payload.encode()
        if head.lower().endswith(";base64"):
            data = b"".join(data.split())
            data = pybase64.b64decode(data + b"=" * (-len(data) % 4), validate=True)
    except ValueError:
        return Failure(kind=ErrorKind.IMAGE_UNREADABLE, message="the data: URL is not valid base64")
    return data or Failure(kind=ErrorKind.IMAGE_UNREADABLE, message="the data: URL is empty")


async def _unbounded(_: int) -> None:
    """There is room for everything."""


async def fetch(
    session: aiohttp.ClientSession, url: str, max_bytes: int, proxy: str | None = None, *, grow: Grow = _unbounded
) -> bytes | Failure:
    """One attempt to fetch an address; at most `max_bytes`, plus what one read brings, are ever in memory.

    `session` brings the timeouts and must carry no credentials of the endpoint: the host is anybody's. `grow` is told
    of every byte that comes, and the next ones are read when it returns; the host is not charged with that time.
    """
    shown = _shown(url)
    if url.partition("://")[0].lower() not in {"http", "https"}:
        return Failure(kind=ErrorKind.IMAGE_UNSUPPORTED, message=f"{shown}: only http and https are fetched")
    try:
        # An address that is already quoted is sent as it is: a signature covers every character.
        target = URL(url, encoded=_SENDABLE.fullmatch(url) is not None)
        with anyio.fail_after(session.timeout.total) as limit:

            async def wait_for_room(size: int) -> None:
                began = anyio.current_time()
                await grow(size)
                limit.deadline += anyio.current_time() - began

            of = session.timeout
            timeout = aiohttp.ClientTimeout(connect=of.connect, sock_connect=of.sock_connect, sock_read=of.sock_read)
            async with session.get(target, proxy=proxy, timeout=timeout) as response:
                return await _body(response, shown, max_bytes, wait_for_room)
    except (aiohttp.InvalidURL, ValueError):
        return Failure(kind=ErrorKind.IMAGE_UNSUPPORTED, message=f"{shown}: not a valid address")
    except TimeoutError:
        return Failure(kind=ErrorKind.FETCH_FAILED, message=f"{shown}: no answer in time")
    except (aiohttp.ClientError, OSError) as error:
        return Failure(kind=ErrorKind.FETCH_FAILED, message=f"{shown}: {_reason(error)}")


async def _body(response: aiohttp.ClientResponse, shown: str, max_bytes: int, grow: Grow) -> bytes | Failure:
    if response.status >= HTTPStatus.MULTIPLE_CHOICES:
        return _status_failure(response, shown)
    if response.content_type in {"text/html", "application/xhtml+xml"}:
        message = f"{shown}: the address answered with a web page"
        return Failure(kind=ErrorKind.IMAGE_UNSUPPORTED, message=message)
    declared = 0 if "Content-Encoding" in response.headers else response.content_length or 0
    if declared > max_bytes:
        return _too_large(declared, max_bytes)
    data = bytearray()
    async for chunk in response.content.iter_chunked(_CHUNK_BYTES):
        await grow(len(chunk))
        data += chunk
        if len(data) > max_bytes:
            return _too_large(None, max_bytes)
    if not data:
        return Failure(kind=ErrorKind.IMAGE_UNREADABLE, message=f"{shown}: the answer is empty")
    return bytes(data)


def _status_failure(response: aiohttp.ClientResponse, shown: str) -> Failure:
    status = response.status
    phrase = _PHRASES.get(status, "")
    told = response.headers.get("Retry-After", "")
    return Failure(
        kind=ErrorKind.IMAGE_MISSING if status in _GONE else ErrorKind.FETCH_FAILED,
        message=f"{shown}: HTTP {status} {phrase}".rstrip(),
        status=status,
        retry_after_s=float(told) if told.isascii() and told.isdecimal() else None,
    )


def _reason(error: Exception) -> str:
    """Our own words: the library's may repeat the address with its signature."""
    reasons: list[tuple[type[Exception], str]] = [
        (aiohttp.ClientProxyConnectionError, "the proxy cannot be reached"),
        (aiohttp.ClientHttpProxyError, "the proxy refuses the connection"),
        (aiohttp.ClientSSLError, "no secure connection (TLS)"),
        (aiohttp.ClientConnectorDNSError, "the host is not known"),
        (aiohttp.ClientConnectorError, "no connection"),
        (aiohttp.TooManyRedirects, "too many redirects"),
        (aiohttp.ClientPayloadError, "the answer broke off"),
        (aiohttp.ServerDisconnectedError, "the host closed the connection"),
        (OSError, "the connection broke"),
    ]
    return next((text for kind, text in reasons if isinstance(error, kind)), "the answer is no valid HTTP")


def _shown(url: str) -> str:
    """An address without user name, password and query, at most 200 characters."""
    before, _, query = url.partition("#")[0].partition("?")
    address = printable(public_url(before))
    if len(address) > _SHOWN_CHARACTERS:
        address = address[: _SHOWN_CHARACTERS - 1] + "…"
    address += "?…" if query else ""
    return address.encode("utf-8", "backslashreplace").decode()  # JSON can name what no file and no address can hold


def _read(descriptor: int, max_bytes: int) -> bytes | Failure:
    facts = os.fstat(descriptor)
    if not stat.S_ISREG(facts.st_mode):
        what = "a directory" if stat.S_ISDIR(facts.st_mode) else "a pipe or a device"
        return Failure(kind=ErrorKind.IMAGE_UNREADABLE, message=f"not a file but {what}")
    if facts.st_size > max_bytes:
        return _too_large(facts.st_size, max_bytes)
    # One byte more than there should be tells the end in one call, and a file that has grown meanwhile.
    data = os.read(descriptor, facts.st_size + 1)
    while len(data) != facts.st_size:
        more = os.read(descriptor, _CHUNK_BYTES)
        if not more:
            break
        data += more
        if len(data) > max_bytes:
            return _too_large(len(data), max_bytes)
    return data or Failure(kind=ErrorKind.IMAGE_UNREADABLE, message="the file is empty")


def _os_failure(error: OSError) -> Failure:
    if error.errno in _EXHAUSTED:
        raise ResourceError(
            f"cannot open any more files ({error.strerror}): raise the limit (ulimit -n 4096) "
            "or lower `limits.concurrency`"
        ) from None
    if error.errno in _MISSING:
        return Failure(kind=ErrorKind.IMAGE_MISSING, message="no such file")
    return Failure(kind=ErrorKind.IMAGE_UNREADABLE, message=f"cannot be read: {error.strerror or error}")


def _too_large(size: int | None, max_bytes: int) -> Failure:
    much = "more bytes" if size is None else f"{size:,} bytes"
    message = f"{much}, where at most {max_bytes:,} are read (images.max_file_mb)"
    return Failure(kind=ErrorKind.IMAGE_TOO_LARGE, message=message)
