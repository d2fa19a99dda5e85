"""Sessions, proxies, certificates, and what the network's exceptions become."""

import asyncio
import errno
import os
import shutil
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from aiohttp.client_reqrep import ConnectionKey

from pipeline.config.loading import load_config
from pipeline.config.sections import EndpointConfig
from pipeline.errors import ErrorKind, InputError, ResourceError
from pipeline.http.agent import USER_AGENT
from pipeline.http.errors import failure_of
from pipeline.http.proxies import proxy_of
from pipeline.http.session import open_image_session, open_session
from pipeline.http.tls import CA_VARIABLES, image_context
from pipeline.records import Answer, Failure
from tests.clients import ChatClient

BODY = b'{"choices":[{"message":{"content":"A red boat."},"finish_reason":"stop"}]}'
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(BODY), BODY)

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No proxy and no authority of the machine that runs the tests."""
    for name in [*os.environ, *CA_VARIABLES]:
        if name.lower().endswith("_proxy") or name in CA_VARIABLES:
            monkeypatch.delenv(name, raising=False)


@asynccontextmanager
async def listening(serve: Serve, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """A server on loopback that does as `serve` says with each connection; yields its port."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await serve(reader, writer)
        except ConnectionError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=tls)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def ask(endpoint: EndpointConfig) -> Answer | Failure:
    async with open_session(endpoint, 1) as session:
        return await ChatClient(session, endpoint, "secret-key").ask(b"{}")


async def failure(endpoint: EndpointConfig) -> Failure:
    result = await ask(endpoint)
    assert isinstance(result, Failure), result
    return result


async def answering(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(ANSWER)
    await writer.drain()


# ------------------------------------------------------------------- sessions


async def test_the_headers_that_are_sent() -> None:
    """The request names this program, bears the key, and no cookies that the endpoint set before."""
    heads: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(2):
            heads.append(await reader.readuntil(b"\r\n\r\n"))
            await reader.readexactly(2)
            writer.write(ANSWER.replace(b"200 OK\r\n", b"200 OK\r\nSet-Cookie: a=b\r\n"))
            await writer.drain()

    async with listening(serve) as port:
        endpoint = EndpointConfig(base_url=f"http://127.0.0.1:{port}/v1")
        async with open_session(endpoint, 1) as session:
            chat = ChatClient(session, endpoint, "secret-key")
            results = [await chat.ask(b"{}"), await chat.ask(b"{}")]
    assert all(isinstance(result, Answer) for result in results)
    assert heads[0] == heads[1]  # on one connection, kept alive
    lines = heads[0].split(b"\r\n")
    assert lines[0] == b"POST /v1/chat/completions HTTP/1.1"
    assert b"Authorization: Bearer secret-key" in lines
    assert b"Content-Type: application/json" in lines
    assert b"User-Agent: " + USER_AGENT.encode() in lines
    assert not any(line.lower().startswith(b"cookie:") for line in lines)


async def test_the_pool_has_a_connection_for_every_slot() -> None:
    """As many requests as `connections` are at the endpoint at once, none waits for another."""
    arrived, gate = asyncio.Semaphore(0), asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        arrived.release()
        await gate.wait()
        writer.write(ANSWER)
        await writer.drain()

    async with listening(serve) as port:
        endpoint = EndpointConfig(base_url=f"http://127.0.0.1:{port}")
        async with open_session(endpoint, 150) as session, asyncio.TaskGroup() as tasks:
            chat = ChatClient(session, endpoint, None)
            asked = [tasks.create_task(chat.ask(b"{}")) for _ in range(150)]
            for _ in range(150):
                await arrived.acquire()
            gate.set()
    assert sum(isinstance(task.result(), Answer) for task in asked) == 150


@pytest.mark.parametrize("headers", [b"X-Policy: " + 40_000 * b"a", b"\r\n".join(b"X-%d: a" % n for n in range(300))])
async def test_headers_of_a_proxy(headers: bytes) -> None:
    """Long ones, and many, are no reason to throw an answer away that has been paid for."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        status, _, rest = ANSWER.partition(b"\r\n")
        writer.write(b"\r\n".join((status, headers, rest)))
        await writer.drain()

    async with listening(serve) as port:
        endpoint = EndpointConfig(base_url=f"http://127.0.0.1:{port}")
        async with open_session(endpoint, 1) as session:
            assert isinstance(await ChatClient(session, endpoint, None).ask(b"{}"), Answer)


# ------------------------------------------------------------------- the network's failures


async def test_nobody_listens() -> None:
    """A closed port is unreachable, and the message names it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    got = await failure(EndpointConfig(base_url=f"http://127.0.0.1:{port}/v1"))
    assert got == Failure(
        kind=ErrorKind.UNREACHABLE,
        message=f"no server listens on http://127.0.0.1:{port} (connection refused)",
    )


async def test_an_endpoint_that_is_slow_to_begin() -> None:
    """No first byte within its time: TIMEOUT, naming the setting."""
    gate = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await gate.wait()

    async with listening(serve) as port:
        got = await failure(EndpointConfig(base_url=f"http://127.0.0.1:{port}", first_byte_timeout_s=0.05))
        gate.set()
    assert got.kind is ErrorKind.TIMEOUT
    assert "first_byte_timeout_s" in got.message


async def test_timeout_s_is_the_one_timeout() -> None:
    """By default nothing ends a request before `timeout_s`: an answer that is not streamed is silent until its end.
    Presets of servers on this machine, which load a model first, keep times of their own.
    """
    for endpoint, times in (
        (EndpointConfig(), (300.0, None)),
        (EndpointConfig(timeout_s=900), (900.0, None)),
        (load_config("openai", environ={}).endpoint, (300.0, None)),
        (load_config("ollama", environ={}).endpoint, (900.0, 600.0)),
        (load_config("lmstudio", environ={}).endpoint, (900.0, 600.0)),
    ):
        async with open_session(endpoint) as session:
            assert (session.timeout.total, session.timeout.sock_read) == times
        async with open_image_session(endpoint, 1) as images:
            assert images.timeout.sock_read == (times[1] or 120.0)


async def test_an_endpoint_that_never_ends() -> None:
    """A body that does not end within the total time: TIMEOUT, naming the setting."""
    gate = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(ANSWER[:-5])
        await gate.wait()

    async with listening(serve) as port:
        got = await failure(EndpointConfig(base_url=f"http://127.0.0.1:{port}", timeout_s=0.05))
        gate.set()
    assert got.kind is ErrorKind.TIMEOUT
    assert "timeout_s" in got.message


@pytest.mark.parametrize(
    ("sent", "kind", "words"),
    [
        (b"", ErrorKind.CONNECTION, "before it answered"),
        (ANSWER[:-5], ErrorKind.CONNECTION, "in the middle"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", ErrorKind.CONNECTION, "middle"),
        (b"SSH-2.0-OpenSSH_9.6\r\n", ErrorKind.INVALID_RESPONSE, "HTTP"),
    ],
)
async def test_connections_that_break(sent: bytes, kind: ErrorKind, words: str) -> None:
    """Closed before the answer, in the middle of it, or by something that speaks no HTTP."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(2)
        writer.write(sent)
        await writer.drain()

    async with listening(serve) as port:
        got = await failure(EndpointConfig(base_url=f"http://127.0.0.1:{port}"))
    assert got.kind is kind
    assert words in got.message


async def test_a_reset() -> None:
    """A connection that is reset once it stood may have been billed: CONNECTION, not UNREACHABLE."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        linger = b"\x01\0\0\0\0\0\0\0"  # on, 0 seconds: close() sends RST
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        writer.transport.abort()

    async with listening(serve) as port:
        got = await failure(EndpointConfig(base_url=f"http://127.0.0.1:{port}"))
    assert got.kind is ErrorKind.CONNECTION


def key(host: str = "api.test", *, is_ssl: bool = True) -> ConnectionKey:
    return ConnectionKey(
        host=host, port=443, is_ssl=is_ssl, ssl=True, proxy=None, proxy_auth=None, proxy_headers_hash=None
    )


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (aiohttp.ClientConnectorDNSError(key(), socket.gaierror(-2, "Name not known")), ErrorKind.UNREACHABLE),
        (aiohttp.ClientConnectorError(key(), OSError(errno.ENETUNREACH, "")), ErrorKind.UNREACHABLE),
        (aiohttp.ClientProxyConnectionError(key(), OSError(errno.ECONNREFUSED, "")), ErrorKind.UNREACHABLE),
        (aiohttp.ConnectionTimeoutError("Connection timeout to host https://api.test"), ErrorKind.UNREACHABLE),
        (socket.gaierror(-2, "Name not known"), ErrorKind.UNREACHABLE),
        (ConnectionRefusedError(errno.ECONNREFUSED, "refused"), ErrorKind.UNREACHABLE),
        (aiohttp.ServerTimeoutError(), ErrorKind.TIMEOUT),
        (TimeoutError(), ErrorKind.TIMEOUT),
        (ConnectionResetError(errno.ECONNRESET, "reset"), ErrorKind.CONNECTION),
        (aiohttp.ClientOSError(errno.ECONNRESET, "reset"), ErrorKind.CONNECTION),
        (aiohttp.ClientError("else"), ErrorKind.CONNECTION),
        (ssl.SSLError(1, "[SSL] bad record mac"), ErrorKind.CONNECTION),
    ],
)
def test_exceptions_by_type(error: BaseException, kind: ErrorKind) -> None:
    """What never stood is UNREACHABLE, what broke is CONNECTION, what took too long is TIMEOUT."""
    got = failure_of(error)
    assert got is not None
    assert got.kind is kind
    assert got.message.isprintable()


@pytest.mark.parametrize(
    "error", [ValueError(), asyncio.CancelledError(), KeyboardInterrupt(), aiohttp.InvalidURL("x")]
)
def test_bugs_and_cancellation_are_not_ours_to_explain(error: BaseException) -> None:
    """They pass through."""
    assert failure_of(error) is None


def test_no_file_handles_left() -> None:
    """The machine's own limit stops the run with the way out, instead of blaming the endpoint."""
    with pytest.raises(ResourceError, match="ulimit -n"):
        failure_of(aiohttp.ClientConnectorError(key(), OSError(errno.EMFILE, "Too many open files")))


# ------------------------------------------------------------------- certificates


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate for 127.0.0.1, its key in the same PEM file."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("the openssl command is not installed")
    folder = tmp_path_factory.mktemp("tls")
    command = [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", "key.pem", "-out", "cert.pem"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    pem = folder / "both.pem"
    pem.write_text((folder / "key.pem").read_text() + (folder / "cert.pem").read_text())
    return pem


def server_side(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


async def test_a_certificate_that_nobody_vouches_for(certificate: Path) -> None:
    """It is unreachable, nothing was sent, and the message says which setting helps."""
    async with listening(answering, server_side(certificate)) as port:
        got = await failure(EndpointConfig(base_url=f"https://127.0.0.1:{port}"))
    assert got.kind is ErrorKind.UNREACHABLE
    assert "endpoint.ca_file" in got.message
    assert f"https://127.0.0.1:{port}" in got.message


@pytest.mark.parametrize("variable", [None, *CA_VARIABLES])
async def test_an_authority_of_one_s_own(
    certificate: Path, monkeypatch: pytest.MonkeyPatch, variable: str | None
) -> None:
    """The configured file, or any of the usual variables, makes the certificate trusted."""
    if variable:
        monkeypatch.setenv(variable, str(certificate))
    async with listening(answering, server_side(certificate)) as port:
        ca_file = None if variable else certificate
        result = await ask(EndpointConfig(base_url=f"https://127.0.0.1:{port}", ca_file=ca_file))
    assert isinstance(result, Answer)


async def test_images_trust_the_authority_of_the_endpoint_besides(
    certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Images are fetched from a host that the endpoint's authority has signed for, and from all that others have."""
    async with listening(answering, server_side(certificate)) as port:
        endpoint = EndpointConfig(base_url="https://api.test", ca_file=certificate, proxy="http://proxy.test:1")
        async with open_image_session(endpoint, 1) as session, session.get(f"https://127.0.0.1:{port}") as response:
            assert response.status == 200
    context = image_context(endpoint)
    assert context is not None
    system = ssl.create_default_context().cert_store_stats()["x509"]
    assert context.cert_store_stats()["x509"] == system + 1


async def test_https_to_a_server_without_tls() -> None:
    """The message guesses right: http is spoken there."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")
        await writer.drain()

    async with listening(serve) as port:
        got = await failure(EndpointConfig(base_url=f"https://127.0.0.1:{port}"))
    assert got.kind is ErrorKind.UNREACHABLE
    assert "use http://" in got.message


async def test_ca_files_that_are_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Missing, or no PEM: said with the name of the setting, before anything is sent."""
    text = tmp_path / "text.pem"
    text.write_text("no certificate")
    for path, words in ((text, "holds no certificate"), (tmp_path / "none.pem", "No such file")):
        with pytest.raises(InputError, match=rf"endpoint\.ca_file: .*{words}"):
            open_session(EndpointConfig(base_url="https://api.test", ca_file=path), 1)
        monkeypatch.setenv("SSL_CERT_FILE", str(path))
        with pytest.raises(InputError, match=rf"SSL_CERT_FILE: .*{words}"):
            open_session(EndpointConfig(base_url="https://api.test"), 1)


# ------------------------------------------------------------------- proxies


@pytest.mark.parametrize("variable", [None, "http_proxy", "HTTP_PROXY", "all_proxy"])
async def test_the_proxy_is_used(monkeypatch: pytest.MonkeyPatch, variable: str | None) -> None:
    """A host that no name server knows is reached through the configured proxy, or the environment's."""
    lines: list[bytes] = []

    async def proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        lines.append(await reader.readline())
        await answering(reader, writer)

    async with listening(proxy) as port:
        address = f"127.0.0.1:{port}"
        if variable:
            monkeypatch.setenv(variable, address)
        result = await ask(
            EndpointConfig(base_url="http://model.test/v1", proxy=None if variable else f"http://{address}")
        )
    assert isinstance(result, Answer)
    assert lines == [b"POST http://model.test/v1/chat/completions HTTP/1.1\r\n"]


async def test_loopback_is_never_proxied(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server on this machine is reached although the environment names a proxy that is not there."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    async with listening(answering) as port:
        assert isinstance(await ask(EndpointConfig(base_url=f"http://127.0.0.1:{port}")), Answer)


def test_no_proxy_is_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    """`no_proxy` exempts a host from the environment's proxy."""
    monkeypatch.setenv("https_proxy", "http://proxy.test:3128")
    endpoint = EndpointConfig(base_url="https://model.test/v1")
    assert proxy_of(endpoint) == "http://proxy.test:3128"
    monkeypatch.setenv("no_proxy", "model.test")
    assert proxy_of(endpoint) is None


async def test_a_proxy_of_an_unknown_kind() -> None:
    """SOCKS is not spoken: an input error, without the proxy's password in it."""
    with pytest.raises(InputError, match=r"endpoint\.proxy") as caught:
        open_session(EndpointConfig(base_url="https://api.test", proxy="socks5://me:hidden@proxy.test"), 1)
    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize(
    ("status", "kind"),
    [(b"407 Proxy Authentication Required", ErrorKind.AUTHENTICATION), (b"403 Forbidden", ErrorKind.UNREACHABLE)],
)
async def test_a_proxy_that_refuses(status: bytes, kind: ErrorKind) -> None:
    """A refused CONNECT says so, and never shows the proxy's password or the key."""
    heads: list[bytes] = []

    async def proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 " + status + b"\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()

    async with listening(proxy) as port:
        endpoint = EndpointConfig(base_url="https://model.test/v1", proxy=f"http://me:hidden@127.0.0.1:{port}")
        got = await failure(endpoint)
    assert heads[0].startswith(b"CONNECT model.test:443 HTTP/1.1\r\n")
    assert b"secret-key" not in heads[0]
    assert got.kind is kind
    assert status[:3].decode() in got.message
    assert "hidden" not in got.message


async def test_a_proxy_that_is_not_there() -> None:
    """The message blames the proxy, not the endpoint."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    got = await failure(EndpointConfig(base_url="http://model.test/v1", proxy=f"http://127.0.0.1:{port}"))
    assert got.kind is ErrorKind.UNREACHABLE
    assert got.message == f"the proxy 127.0.0.1:{port} cannot be reached (connection refused)"
