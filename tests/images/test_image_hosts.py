"""Hosts of images on a real HTTP server: which are asked, where redirects lead, how many requests at once."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult

import pipeline
from pipeline.errors import ErrorKind
from pipeline.http.image_hosts import MOST_REDIRECTS
from pipeline.images.fetch import fetch
from pipeline.records import Failure
from tests.builders import ask
from tests.image_hosts import image_host, image_hosts, jumps
from tests.support import Command, MakeImage

LIMIT = 100_000
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

PRIVATE = [
    *("http://127.0.0.1:{port}/a", "http://127.1:{port}/a", "http://2130706433:{port}/a", "http://0x7f.1:{port}/a"),
    *("http://0177.0.0.1:{port}/a", "http://0.0.0.0:{port}/a", "http://[::1]:{port}/a", "http://[::ffff:127.0.0.1]:{port}/a"),
    *("http://localhost:{port}/a", "http://LOCALHOST.:{port}/a", "http://user:pw@127.0.0.1:{port}/a", "http://①②⑦.0.0.1:{port}/a"),
    *("http://10.0.0.1/a", "http://192.168.0.1/a", "http://169.254.169.254/latest/meta-data/", "http://[fe80::1]/a"),
    *("http://[64:ff9b::a00:1]/a", "http://[2002:a00:1::]/a", "http://[fd00::1]/a", "http://metadata.google.internal/a"),
    *("http://224.0.0.1/a", "http://100.64.0.1/a", "http://intranet/a", "https://127.0.0.1:{port}/a"),
]  # fmt: skip


class Names(AbstractResolver):
    """DNS: each question for a name takes its next address; the last one stays."""

    def __init__(self, addresses: Iterable[str]) -> None:
        self.addresses, self.asked = list(addresses), list[str]()

    async def resolve(self, host: str, port: int = 0, family: int = socket.AF_INET) -> list[ResolveResult]:
        self.asked.append(host)
        found = self.addresses.pop(0) if len(self.addresses) > 1 else self.addresses[0]
        of = socket.AF_INET6 if ":" in found else socket.AF_INET
        every = found.split(",")
        return [{"hostname": host, "host": one, "port": port, "family": of, "proto": 0, "flags": 0} for one in every]

    async def close(self) -> None: ...


@asynccontextmanager
async def served(
    handler: Callable[[web.Request], "asyncio.Future[web.StreamResponse]"] | Handler,
) -> AsyncIterator[int]:
    app = web.Application()
    app.router.add_get("/{path:.*}", handler)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield int(runner.addresses[0][1])
    await runner.cleanup()


async def refused(url: str, **more: object) -> Failure:
    async with image_hosts(allow_private_hosts=False, **more) as hosts:  # type: ignore[arg-type] # by name
        found = await fetch(hosts, url, LIMIT)
    assert isinstance(found, Failure)
    return found


async def test_private_addresses_in_every_spelling() -> None:
    """None is asked; the row says what is wrong, and names the way out. With the setting, all of them are."""
    asked = []

    async def answer(request: web.Request) -> web.Response:
        asked.append(request.path)
        return web.Response(body=b"image")

    async with served(answer) as port:
        for url in PRIVATE:
            found = await refused(url.format(port=port))
            assert (url, found.kind) == (url, ErrorKind.FETCH_FORBIDDEN)
            assert "source.allow_private_hosts" in found.message
            assert "pw@" not in found.message
        assert asked == []
        async with image_hosts() as hosts:
            assert await fetch(hosts, f"http://localhost:{port}/a", LIMIT) == b"image"


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "10.0.0.1", "169.254.169.254", "::1", "::ffff:10.0.0.1", "10.0.0.1,10.0.0.2", "0.0.0.0"],  # noqa: S104
)
async def test_names_that_lead_to_private_addresses(address: str) -> None:
    """A name is what it resolves to, at the moment of the connection."""
    names = Names([address])
    found = await refused("http://images.example.com/a.jpg", resolver=names)
    assert (found.kind, names.asked) == (ErrorKind.FETCH_FORBIDDEN, ["images.example.com"])
    assert "images.example.com leads to an address that is not public" in found.message


async def test_dns_that_changes_in_between() -> None:
    """The name is public when it is first asked for, and private when it is connected to: only the second counts."""

    async def answer(_: web.Request) -> web.Response:
        return web.Response(body=b"image")

    async with served(answer) as port:
        names = Names(["192.0.2.1", "127.0.0.1"])
        await names.resolve("images.example.com")
        found = await refused(f"http://images.example.com:{port}/a.jpg", resolver=names)
    assert found.kind is ErrorKind.FETCH_FORBIDDEN


async def test_redirects() -> None:
    """Each hop is checked; at most five are followed; a login goes to its own host alone."""
    seen: list[tuple[str, str | None]] = []
    to: dict[str, str] = {}

    async def answer(request: web.Request) -> web.Response:
        seen.append((request.path, request.headers.get("Authorization")))
        if request.path in to:
            return web.Response(status=302, headers={"Location": to[request.path]})
        return web.Response(body=b"image")

    async with served(answer) as port, image_hosts(allow_private_hosts=False) as hosts:
        base = f"http://127.0.0.1:{port}"
        to |= {"/metadata": "http://169.254.169.254/", "/name": f"http://localhost:{port}/a", "/file": "file:///etc/passwd",
               "/relative": "next?a=%2F", "/broken": "http://[bad/"}  # fmt: skip
        to |= {f"/{n}": f"{base}/{n + 1}" for n in range(9)}
        for path, kind in (
            ("/metadata", ErrorKind.FETCH_FORBIDDEN),
            ("/name", ErrorKind.FETCH_FORBIDDEN),
            ("/file", ErrorKind.IMAGE_UNSUPPORTED),
            ("/broken", ErrorKind.IMAGE_UNSUPPORTED),
            ("/0", ErrorKind.FETCH_FAILED),
        ):
            found = await fetch(hosts, base + path, LIMIT, is_trusted=True)
            assert isinstance(found, Failure)
            assert (path, found.kind) == (path, kind)
        assert await fetch(hosts, f"{base}/relative", LIMIT, is_trusted=True) == b"image"
        assert [path for path, _ in seen if path[1:].isdecimal()] == [f"/{n}" for n in range(MOST_REDIRECTS + 1)]
    to.clear()
    seen.clear()
    async with served(answer) as port, image_hosts() as hosts:
        to |= {"/own": "/a", "/other": f"http://localhost:{port}/b"}
        for path in ("/own", "/other"):
            assert await fetch(hosts, f"http://user:pw@127.0.0.1:{port}{path}", LIMIT) == b"image"
    assert {path: bool(login) for path, login in seen} == {"/own": True, "/a": True, "/other": True, "/b": False}


async def test_a_proxy_gets_no_private_address(monkeypatch: pytest.MonkeyPatch) -> None:
    """It resolves names itself, so that these count by their ending; what is written as an address is checked."""
    asked = []

    async def answer(request: web.Request) -> web.Response:
        asked.append(str(request.url))
        return web.Response(body=b"image")

    async with served(answer) as port:
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{port}")
        for url in ("http://10.0.0.1/a", "http://0x0a000001/a", "http://nas.local/a", "http://%31%30.0.0.1/a"):
            assert (await refused(url)).kind in {ErrorKind.FETCH_FORBIDDEN, ErrorKind.IMAGE_UNSUPPORTED}
        async with image_hosts(allow_private_hosts=False) as hosts:
            assert await fetch(hosts, "http://images.example.com/a.jpg", LIMIT) == b"image"
    assert asked == ["http://images.example.com/a.jpg"]


async def test_a_host_gets_a_few_requests_at_once() -> None:
    """At most `source.per_host`; the wait for a slow host keeps no other host's image, and costs no time of its own."""
    at_once = {"127.0.0.1": 0, "localhost": 0}
    most = dict(at_once)
    gate = asyncio.Event()

    async def answer(request: web.Request) -> web.Response:
        name = request.url.host or ""
        at_once[name] += 1
        most[name] = max(most[name], at_once[name])
        if name == "127.0.0.1":
            await gate.wait()
        at_once[name] -= 1
        return web.Response(body=b"image")

    async with served(answer) as port, image_hosts(per_host=2, in_all=3) as hosts:
        slow = [asyncio.create_task(fetch(hosts, f"http://127.0.0.1:{port}/{n}", LIMIT)) for n in range(8)]
        async with asyncio.timeout(5):
            for n in range(4):
                assert await fetch(hosts, f"http://localhost:{port}/{n}", LIMIT) == b"image"
        gate.set()
        assert await asyncio.gather(*slow) == [b"image"] * 8
    assert most == {"127.0.0.1": 2, "localhost": 1}


async def test_waiting_on_this_machine_is_no_fault_of_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """Longer than the host's whole time: for its turn, and for memory."""
    jump = jumps(monkeypatch)

    async def answer(_: web.Request) -> web.Response:
        return web.Response(body=b"image")

    async def grow(_: int) -> None:
        jump(10)

    async with served(answer) as port, image_hosts(timeout_s=5, per_host=1) as hosts:
        url = f"http://127.0.0.1:{port}/a"
        assert await asyncio.gather(*(fetch(hosts, url, LIMIT, grow=grow) for _ in range(3))) == [b"image"] * 3


async def test_a_body_that_drips(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each byte comes in time, the whole does not."""
    jump, has_arrived, sent, is_over = jumps(monkeypatch), asyncio.Event(), 0, False

    async def drip(request: web.Request) -> web.StreamResponse:
        nonlocal sent
        response = web.StreamResponse(headers={"Content-Length": "1000"})
        await response.prepare(request)
        while not is_over and sent < 1000:
            sent += 1
            has_arrived.clear()
            await response.write(b"x")
            await has_arrived.wait()
            jump(1)
        return response

    async def grow(_: int) -> None:
        has_arrived.set()

    async with served(drip) as port, image_hosts(timeout_s=20) as hosts:
        found = await fetch(hosts, f"http://127.0.0.1:{port}/a", LIMIT, grow=grow)
        is_over = True
        has_arrived.set()
    assert isinstance(found, Failure)
    assert found.kind is ErrorKind.FETCH_TIMEOUT
    assert 15 < sent < 30


@pytest.mark.parametrize(
    ("head", "body", "kind"),
    [
        ("200 OK\r\nContent-Length: 99", b"short", ErrorKind.FETCH_FAILED),
        ("200 OK\r\nTransfer-Encoding: chunked", b"5\r\nimage\r\n", ErrorKind.FETCH_FAILED),
        ("200 OK\r\nContent-Length: 5\r\nContent-Encoding: gzip", b"image", ErrorKind.FETCH_FAILED),
        ("200 OK\r\nContent-Length: -5", b"image", ErrorKind.FETCH_FAILED),
        ("206 Partial Content\r\nContent-Range: bytes 0-4/9\r\nContent-Length: 5", b"image", ErrorKind.FETCH_FAILED),
        ("200 OK\r\nContent-Length: 5\r\nContent-Type: text/html", b"<html", ErrorKind.IMAGE_UNSUPPORTED),
        ("204 No Content", b"", ErrorKind.IMAGE_EMPTY),
        ("304 Not Modified", b"", ErrorKind.FETCH_STATUS),
        ("302 Found", b"", ErrorKind.FETCH_STATUS),
        (f"200 OK\r\nContent-Length: {LIMIT + 1}", b"image", ErrorKind.FETCH_TOO_LARGE),
    ],
)
async def test_answers_that_lie(head: str, body: bytes, kind: ErrorKind) -> None:
    """Never a part of an image that passes for one."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(f"HTTP/1.1 {head}\r\n\r\n".encode() + body)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server, image_hosts() as hosts:
        found = await fetch(hosts, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/a", LIMIT)
    assert isinstance(found, Failure)
    assert found.kind is kind, found.message


def test_a_manifest_of_private_addresses(make_image: MakeImage, endpoint: str, command: Command) -> None:
    """Rows are `failed` by default, in a run and in an estimate; with the option they are asked. A single SOURCE is
    the user's own address, but not where it redirects to.
    """
    photo = make_image("a.jpg", 64, 48).read_bytes()
    files: dict[str, bytes | int | str] = {"/a.jpg": photo, "/moved.jpg": "http://10.0.0.1/a.jpg"}
    with image_host(files) as (host, _):
        Path("list.txt").write_text(f"{host}/a.jpg\nhttp://169.254.169.254/b.jpg\n")
        assert ask("list.txt", endpoint).by_error == {"fetch_forbidden": 2}
        code, _, said = command("estimate", "list.txt", "--model", "gpt-4o")
        assert (code, "fetch_forbidden: 127.0.0.1 is no public address" in said) == (2, True)
        again = [*("run", "list.txt", "-o", "out", "--retry-failed", "--limit", "1", "--model", "gpt-4o")]
        assert command(*again, "--base-url", endpoint, "--allow-private-hosts")[0] == 0
        assert ask(f"{host}/a.jpg", endpoint, out="one").by_status == {"ok": 1}
        assert ask(f"{host}/moved.jpg", endpoint, out="moved").by_error == {"fetch_forbidden": 1}
        assert command("estimate", f"{host}/a.jpg", "--model", "gpt-4o")[0] == 0
    row = pipeline.read("moved").iloc[0]
    assert row.error_message == (
        f"{host}/moved.jpg: redirected to http://10.0.0.1/a.jpg: 10.0.0.1 is no public address; images are fetched "
        "from public hosts only, unless source.allow_private_hosts is set"
    )
