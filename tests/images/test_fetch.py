"""Images fetched from a real HTTP server on this machine."""

import asyncio
import gzip
from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from pipeline.errors import ErrorKind
from pipeline.http.image_hosts import ImageHosts
from pipeline.images.fetch import fetch
from pipeline.records import Failure
from tests.image_hosts import image_hosts

LIMIT = 1000


def failed(result: bytes | Failure) -> Failure:
    assert isinstance(result, Failure)
    assert "secret" not in result.message
    return result


class Host:
    """An image host: what a path answers is written into `answers`; every request line is kept."""

    def __init__(self) -> None:
        self.base = ""
        self.requests: list[str] = []
        self.sent_bytes = 0

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(request.raw_path)
        name = request.path[1:]
        if name.isdecimal():
            return web.Response(status=int(name), headers={"Retry-After": "7"}, text="secret")
        if name == "page":
            return web.Response(text="\ufeff\n<html>", content_type="text/html")
        if name == "packed":
            return web.Response(body=gzip.compress(bytes(9000)), headers={"Content-Encoding": "gzip"})
        if name == "loop":
            raise web.HTTPFound("/loop?sig=secret")
        if name == "moved":
            raise web.HTTPFound("/image")
        if name == "break":
            return await self.break_off(request)
        if name == "endless":
            return await self.endless(request)
        body = {"large": bytes(LIMIT + 1), "empty": b"", "none": b"", "no-page": b""}.get(name, b"image")
        kind = "text/html" if name in {"no-page", "called-page"} else None
        return web.Response(body=body, status=204 if name == "none" else 200, content_type=kind)

    async def break_off(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "100"})
        await response.prepare(request)
        await response.write(b"half")
        assert request.transport is not None
        request.transport.close()
        return response

    async def endless(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            while True:
                await response.write(bytes(100_000))
                self.sent_bytes += 100_000
        except ConnectionError:
            return response


@pytest.fixture
async def host() -> AsyncIterator[Host]:
    served = Host()
    app = web.Application()
    app.router.add_get("/{path:.*}", served.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    served.base = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield served
    await runner.cleanup()


@pytest.fixture
async def hosts() -> AsyncIterator[ImageHosts]:
    async with image_hosts() as opened:
        yield opened


async def test_an_image_is_fetched(host: Host, hosts: ImageHosts) -> None:
    """Proves that the body comes back, through a redirect too."""
    assert await fetch(hosts, f"{host.base}/image", LIMIT) == b"image"
    assert await fetch(hosts, f"{host.base}/moved", LIMIT) == b"image"


async def test_an_image_that_is_called_a_page(host: Host, hosts: ImageHosts) -> None:
    """Some hosts have one type for every file: what is no page by its first byte is looked at."""
    assert await fetch(hosts, f"{host.base}/called-page", LIMIT) == b"image"


async def test_a_signed_address_is_sent_as_written(host: Host, hosts: ImageHosts) -> None:
    """Proves that no character of a quoted address changes, and that an unquoted one is quoted."""
    signed = "/a%2Fb%20c.jpg?sig=a%2Bb%2Fc%3D&x=%7E'()"
    await fetch(hosts, host.base + signed, LIMIT)
    await fetch(hosts, f"{host.base}/ä b.jpg", LIMIT)
    assert host.requests == [signed, "/%C3%A4%20b.jpg"]


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("404", (ErrorKind.IMAGE_MISSING, "HTTP 404 Not Found", 404)),
        ("410", (ErrorKind.IMAGE_MISSING, "HTTP 410 Gone", 410)),
        ("403", (ErrorKind.FETCH_STATUS, "HTTP 403 Forbidden", 403)),
        ("429", (ErrorKind.FETCH_STATUS, "HTTP 429 Too Many Requests", 429)),
        ("503", (ErrorKind.FETCH_STATUS, "HTTP 503 Service Unavailable", 503)),
        ("599", (ErrorKind.FETCH_STATUS, "HTTP 599", 599)),
        ("page", (ErrorKind.IMAGE_UNSUPPORTED, "the address answered with a web page", None)),
        ("empty", (ErrorKind.IMAGE_EMPTY, "the answer is empty", None)),
        ("none", (ErrorKind.IMAGE_EMPTY, "the answer is empty", None)),
        ("no-page", (ErrorKind.IMAGE_EMPTY, "the answer is empty", None)),
        ("loop", (ErrorKind.FETCH_FAILED, "the host redirects too often", None)),
        ("break", (ErrorKind.FETCH_FAILED, "the host closed the connection in the middle of the answer", None)),
    ],
)
async def test_answers_that_are_no_image(
    host: Host, hosts: ImageHosts, path: str, expected: tuple[ErrorKind, str, int | None]
) -> None:
    """Proves the kind, status and words of each failure, and that no signature or password is in them."""
    kind, message, status = expected
    url = f"{host.base}/{path}?X-Amz-Signature=secret".replace("http://", "http://user:secret@")
    result = failed(await fetch(hosts, url, LIMIT))
    assert (result.kind, result.status) == (kind, status)
    assert result.message == f"{host.base}/{path}?…: {message}"
    assert result.retry_after_s == (7.0 if status else None)


async def test_a_body_over_the_limit_stops_early(host: Host, hosts: ImageHosts) -> None:
    """Proves that a declared size, an endless body and a packed one all stop at the limit."""
    for path in ("large", "endless", "packed"):
        result = failed(await fetch(hosts, f"{host.base}/{path}", LIMIT))
        assert result.kind is ErrorKind.FETCH_TOO_LARGE
    assert host.sent_bytes < 20_000_000


async def test_hosts_that_do_not_answer(hosts: ImageHosts) -> None:
    """Proves that a refused connection and a silent host are failed fetches, and end."""
    asked = asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.set()
        await reader.read()
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/a.jpg"
    async with image_hosts(timeout_s=0.2) as impatient:
        result = failed(await fetch(impatient, url, LIMIT))
    assert (result.kind, result.message) == (ErrorKind.FETCH_TIMEOUT, f"{url}: not complete in time")
    assert asked.is_set()
    server.close()
    await server.wait_closed()
    result = failed(await fetch(hosts, url, LIMIT))
    where = url.removesuffix("/a.jpg")
    assert (result.kind, result.message) == (
        ErrorKind.FETCH_FAILED, f"{url}: no server listens on {where} (connection refused)"
    )  # fmt: skip


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("ftp://bucket/a.jpg?sig=secret", "ftp://bucket/a.jpg?…: only http and https are fetched"),
        ("http://", "http://: not a valid address"),
        ("http://[::1/a.jpg", "http://[::1/a.jpg: not a valid address"),
        ("http://h:port/a.jpg", "http://h:port/a.jpg: not a valid address"),
        ("http://ä" + "x" * 300 + "/", None),
    ],
)
async def test_addresses_that_lead_nowhere(hosts: ImageHosts, url: str, message: str | None) -> None:
    """Proves that what cannot be fetched is named without an attempt, in a line of bounded length."""
    result = failed(await fetch(hosts, url, LIMIT))
    assert result.kind is ErrorKind.IMAGE_UNSUPPORTED
    assert message is None or result.message == message
    assert len(result.message) < 260
