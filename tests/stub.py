"""A server of chat/completions whose answer a test chooses for each image; a forward proxy and an image host, too."""

import base64
import io
import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

from PIL import Image


@dataclass(frozen=True)
class Reply:
    """A response as a vendor writes it."""

    status: int
    body: Any
    headers: dict[str, str] = field(default_factory=dict)


Decide = Callable[[int], int | Reply]
"""The width of the image, which stands for it -> the HTTP status, or all of the response. May take its time."""


@dataclass
class Stub:
    """What it is to say, and what it has seen."""

    decide: Decide = lambda _: 200
    asked: Counter[int] = field(default_factory=Counter)
    """Requests by the width of their image."""
    bodies: list[bytes] = field(default_factory=list)
    """Of all requests for an answer."""
    paths: list[str] = field(default_factory=list)
    """Of all requests, as they stand in the request line: absolute where it is used as a proxy."""
    keys: list[str | None] = field(default_factory=list)
    """The header Authorization of all requests."""
    picture: bytes = b""
    """What every GET gets, where `get` does not decide otherwise."""
    get: Callable[[str], Reply | None] = lambda _: None
    """The response to a GET of this path; None: the picture."""
    url: str = ""

    @property
    def base_url(self) -> str:
        return f"{self.url}/v1"


@contextmanager
def stub(decide: Decide = lambda _: 200, picture: bytes = b"") -> Iterator[Stub]:
    """A server on a free port, which ends with the block."""
    told = Stub(decide=decide, picture=picture)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            told.paths.append(self.path)
            told.keys.append(self.headers.get("Authorization"))
            reply = told.get(self.path)
            if reply is None:
                self.reply(200, told.picture, "image/jpeg")
            else:
                self.reply(reply.status, written(reply.body), "application/json", reply.headers)

        def do_POST(self) -> None:
            told.paths.append(self.path)
            told.keys.append(self.headers.get("Authorization"))
            told.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
            width = width_of(told.bodies[-1])
            told.asked[width] += 1
            decided = told.decide(width)
            reply = decided if isinstance(decided, Reply) else plain(decided, width)
            self.reply(reply.status, written(reply.body), "application/json", reply.headers)

        def reply(self, status: int, body: bytes, kind: str, headers: dict[str, str] | None = None) -> None:
            self.send_response(status)
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None: ...

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 128

        def handle_error(self, *_: object) -> None:
            """Clients that are killed close their connections."""

    with Server(("127.0.0.1", 0), Handler) as server:
        told.url = f"http://127.0.0.1:{server.server_port}"
        thread = Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield told
        finally:
            server.shutdown()
            thread.join()


def written(body: Any) -> bytes:
    """JSON, except for what is bytes already."""
    return body if isinstance(body, bytes) else json.dumps(body).encode()


def plain(status: int, width: int) -> Reply:
    return Reply(
        status, answer(width) if status == 200 else {"error": {"message": f"no {status} today", "type": "told"}}
    )


def width_of(body: bytes) -> int:
    content = json.loads(body)["messages"][-1]["content"]
    url = next((part["image_url"]["url"] for part in content if part["type"] == "image_url"), None)
    if url is None:  # a document
        return 0
    with Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))) as image:
        return image.width


def answer(width: int) -> dict[str, Any]:
    message = {"role": "assistant", "content": f"{width} pixels wide"}
    return {
        "id": "x",
        "model": "gpt-4o",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 100, "completion_tokens": 5, "total_tokens": 105},
    }
