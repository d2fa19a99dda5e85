"""Bytes that are no HTTP, or no request: the emulator answers or hangs up, and prints nothing."""

import json
import random
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

ROOT = Path(__file__).parents[2]
MUTATIONS = 200
"""Of those below, besides each of them whole."""

PART = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
ASKED = json.dumps({"model": "gpt-4o", "messages": [{"role": "user", "content": [PART]}]}).encode()
CHAT = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\n"


def post(body: bytes, headers: bytes = b"") -> bytes:
    return CHAT + headers + b"Content-Length: %d\r\n\r\n" % len(body) + body


MALFORMED = (
    b"\0\1\2\r\n\r\n",
    b"GET / HTTP/9.9\r\n\r\n",
    b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n",
    b"GET / HTTP/1.1\r\nX: " + b"a" * 100_000 + b"\r\n\r\n",
    CHAT + b"Transfer-Encoding: chunked\r\n\r\nZZ\r\nabc\r\n0\r\n\r\n",
    CHAT + b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\nabc",
    CHAT + b"Transfer-Encoding: chunked\r\n\r\n5\r\nabc",
    CHAT + b"Content-Length: -5\r\n\r\n",
    CHAT + b"Content-Length: 99\r\n\r\nabc",
    CHAT + b"Content-Length: 9999999999999\r\n\r\nabc",
    *(post(b"x" * 30, b"Content-Encoding: %b\r\n" % name) for name in (b"gzip", b"deflate", b"br", b"zstd", b"no")),
    post(ASKED, b"Expect: nonsense\r\n"),
    post(ASKED, b"Upgrade: websocket\r\nConnection: upgrade\r\n"),
    b"GET /v1/models/%ff%fe HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /v1/models/%00 HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET http://[::1 HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET //[ HTTP/1.1\r\nHost: x\r\n\r\n",
    b"CONNECT x:1 HTTP/1.1\r\n\r\n",
    b"GET * HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /emulator/requests?last=%C2%B2 HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /emulator/requests?last=" + b"9" * 5000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    *(post(body) for body in (b"[" * 100_000, b"\xff\xfe", b"null", b"[]", b"{}", b'{"model": "\\ud800"}')),
    post(ASKED.replace(b"AAAA", b"A*")),
    post(ASKED.replace(b"AAAA", "ÄÄ".encode())),
    post(ASKED.replace(b"gpt-4o", b"\\ud83d")),
    *(
        post(ASKED[:-1] + b', "max_tokens": ' + value + b"}")
        for value in (b"1e999", b"9" * 5000, b"NaN", b"-1", b"{}", b"1e18")
    ),
    *(post(ASKED[:-1] + b', "n": ' + value + b"}") for value in (b"1e400", b"null", b'"x"', b"99999999999")),
    post(b'{"model": "gpt-4o", "messages": [1, null, "x", {"role": 7, "content": [[]]}]}'),
    post(ASKED, b"Authorization: \xff\xfe\r\n"),
    post(ASKED, b"Content-Type: \xff;;charset=nonsense\r\n"),
    post(ASKED, b"Host: y\r\n"),
    post(ASKED) * 3,
)


@contextmanager
def emulator(errors: IO[bytes]) -> Iterator[tuple[int, "subprocess.Popen[bytes]"]]:
    command = [sys.executable, "-m", "pipeline", "emulate", "--port", "0"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=errors) as process:
        try:
            assert process.stdout is not None
            yield int(process.stdout.readline().decode().rpartition(":")[2].partition("/")[0]), process
        finally:
            process.kill()


def send(port: int, data: bytes, *, reset: bool) -> None:
    """To a connection of its own, which is reset, or ended and read until the emulator closes it as well."""
    with socket.create_connection(("127.0.0.1", port), 20) as connection, suppress(ConnectionError):
        connection.sendall(data)
        if reset:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            return
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(65536):
            pass


def mutated(rng: random.Random) -> bytes:
    data = bytearray(rng.choice(MALFORMED)[:5000])
    for _ in range(rng.randint(1, 10)):
        data[rng.randrange(rng.choice([min(len(data), 40), len(data)]))] = rng.choice([0, 10, 13, 32, 58, 255])
    return bytes(data[: rng.randint(1, len(data))] if rng.random() < 0.3 else data)


def test_malformed_requests_print_nothing() -> None:
    """Each malformed request, ended or reset, and mutations: standard error stays empty, good ones are answered."""
    rng = random.Random(1)
    with tempfile.TemporaryFile() as errors:
        with emulator(errors) as (port, process):
            for data in MALFORMED:
                send(port, data, reset=False)
                send(port, data, reset=True)
            for _ in range(MUTATIONS):
                send(port, mutated(rng), reset=rng.random() < 0.5)
            with socket.create_connection(("127.0.0.1", port), 20) as connection:
                connection.sendall(b"GET /v1/models HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                assert connection.recv(15) == b"HTTP/1.1 200 OK"
            process.terminate()
            assert process.wait(30) == 0
        errors.seek(0)
        assert errors.read().decode() == ""
