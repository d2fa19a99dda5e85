"""Ready bodies to one address: whatever a server does, the short way gives what aiohttp's session gives."""

import asyncio
import gzip
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest

from pipeline.http.posting import HEADER_BYTES, HEADERS, Poster, Reply

BODY = b'{"model": "m"}'
MOST = 1_000
OK = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nok"
ZIPPED = gzip.compress(b"ok")

SERVERS = {
    "an answer": OK,
    "an error": b"HTTP/1.1 500 Oh\r\nContent-Length: 2\r\nX-A: 1\r\nx-a: 2\r\n\r\nno",
    "a redirect": b"HTTP/1.1 307 There\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n",
    "no content": b"HTTP/1.1 204 Nothing\r\n\r\n",
    "interim responses": b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + OK,
    "chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\no\r\n1\r\nk\r\n0\r\n\r\n",
    "compressed": b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n%b" % (len(ZIPPED), ZIPPED),
    "no length": b"HTTP/1.1 200 OK\r\n\r\nok",
    "HTTP/1.0": b"HTTP/1.0 200 OK\r\n\r\nok",
    "it closes": b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
    "as long as is read": b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + b"x" * 1_000,
    "too long": b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n" + b"x" * 5_000,
    "cut": b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok",
    "cut chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nok",
    "cut in its head": b"HTTP/1.1 200 OK\r\nContent-Le",
    "nothing": b"",
    "not HTTP": b"SSH-2.0-OpenSSH_9.2\r\n",
    "a wrong chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nok\r\n0\r\n\r\n",
    "a header that never ends": b"HTTP/1.1 200 OK\r\nX: " + b"x" * 200_000 + b"\r\n\r\n",
    "switching protocols": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
}
LASTING = {"an answer", "an error", "a redirect", "no content", "interim responses", "chunks", "compressed"} | {
    "as long as is read"
}
"""After these the connection serves the next request."""


class Server:
    """Sends the same bytes for each request, and closes the connection where they do not say where they end."""

    def __init__(self, says: bytes, *, lasts: bool, waits_for_body: bool = True, most: int = 1_000) -> None:
        """`most`: requests of one connection; the next one is met by its end."""
        self.says, self.lasts, self.waits_for_body, self.most = says, lasts, waits_for_body, most
        self.connections, self.requests = 0, list[bytes]()
        self.url, self.asked = "", asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            for _ in range(self.most):
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
                body = await reader.readexactly(length) if self.waits_for_body else b""
                self.requests.append(head + body)
                self.asked.set()
                writer.write(self.says)
                await writer.drain()
                if not self.lasts:
                    return
            await reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def served(server: Server) -> AsyncIterator[Server]:
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    async with listening:
        server.url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/v1/chat/completions?api-version=1"
        yield server


def our_session() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        headers={"User-Agent": "vision-batch"},
        max_line_size=HEADER_BYTES,
        max_field_size=HEADER_BYTES,
        max_headers=HEADERS,
    )


def poster(session: aiohttp.ClientSession, url: str, *, direct: bool) -> Poster:
    return Poster(session, url, {"authorization": "Bearer k", "user-agent": "mine"}, max_bytes=MOST, proxied=not direct)


async def outcome(posting: Poster, body: bytes = BODY) -> tuple[object, ...]:
    """What one request gives, in a form to compare."""
    try:
        reply = await posting.post(body)
    except (aiohttp.ClientError, OSError) as error:
        return type(error), getattr(error, "status", None)
    return reply.status, sorted((name.lower(), value) for name, value in reply.headers.items()), reply.body


@pytest.mark.parametrize("says", SERVERS)
async def test_whatever_a_server_sends(says: str) -> None:
    """Status, headers and body, or the same exception; as many connections; and the request is the same."""
    found, tries = [], 1 if says == "too long" else 3
    for direct in (True, False):
        server = Server(SERVERS[says], lasts=says in LASTING)
        async with served(server), our_session() as session:
            posting = poster(session, server.url, direct=direct)
            results = [await outcome(posting) for _ in range(tries)]
        host = server.url.split("/")[2].encode()
        heads = [sorted(one.replace(host, b"HOST").split(b"\r\n")) for one in server.requests]
        found.append((results, server.connections, heads))
    assert found[0] == found[1]
    assert found[0][1] == (1 if says in LASTING else tries)


async def test_a_server_that_answers_before_it_has_read_the_request() -> None:
    """What is still to be sent would be taken for the next request: its connection is given up."""
    body = b"x" * (32 << 20)
    server = Server(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n", lasts=True, waits_for_body=False)
    async with served(server), aiohttp.ClientSession() as session:
        posting = poster(session, server.url, direct=True)
        for _ in range(2):
            assert (await posting.post(body))[0] == 413
    assert server.connections == 2


async def test_a_server_that_breaks_off_kept_connections() -> None:
    """One request meets it; for a minute the others have connections of their own, also where some are still kept."""
    server = Server(OK, lasts=True, most=1)
    async with served(server), aiohttp.ClientSession() as session:
        posting = poster(session, server.url, direct=True)
        assert [one[0] for one in await asyncio.gather(*[outcome(posting) for _ in range(3)])] == [200] * 3
        assert (await outcome(posting))[0] is aiohttp.ServerDisconnectedError
        assert [(await outcome(posting))[0] for _ in range(4)] == [200] * 4
    assert server.connections == 3 + 4


async def test_a_server_that_says_nothing() -> None:
    """The whole time is bounded, and the connection is not used again."""
    server = Server(b"", lasts=True)
    timeout = aiohttp.ClientTimeout(total=0.05)
    async with served(server), aiohttp.ClientSession(timeout=timeout) as session:
        posting = poster(session, server.url, direct=True)
        for _ in range(2):
            with pytest.raises(TimeoutError) as raised:
                await posting.post(BODY)
            assert not isinstance(raised.value, aiohttp.ClientError)
    assert server.connections == 2


async def test_a_connection_that_does_not_come_about() -> None:
    """Its own time bounds it: the queue of this socket is full."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        held = [socket.socket() for _ in range(4)]
        for one in held:
            one.setblocking(False)  # noqa: FBT003 - its only parameter
            one.connect_ex(listening.getsockname())
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/"
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(connect=0.05)) as session:
            with pytest.raises(aiohttp.ConnectionTimeoutError):
                await poster(session, url, direct=True).post(BODY)
        for one in held:
            one.close()


async def test_cancelling_closes_the_connection() -> None:
    server = Server(b"", lasts=True)
    async with served(server), aiohttp.ClientSession() as session:
        posting = poster(session, server.url, direct=True)
        task = asyncio.create_task(posting.post(BODY))
        await server.asked.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        server.says = OK
        assert (await posting.post(BODY)) == Reply(200, {"Content-Type": "text/plain", "Content-Length": "2"}, b"ok")
    assert server.connections == 2


async def test_a_time_between_two_reads_goes_through_the_session() -> None:
    """The short way has no part for it."""
    server = Server(b"", lasts=True)
    async with served(server), aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(sock_read=0.05)) as session:
        with pytest.raises(aiohttp.SocketTimeoutError):
            await poster(session, server.url, direct=True).post(BODY)
