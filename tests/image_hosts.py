"""What tests of remote images make: sessions to hosts of images, on this machine unless a test says otherwise."""

import asyncio
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest
from aiohttp.abc import AbstractResolver

from pipeline.config.sections import EndpointConfig, SourceConfig
from pipeline.http.image_hosts import ImageHosts
from tests.http_servers import serving

HERE = {"source.allow_private_hosts": True}
"""For `overrides=`: images of servers on this machine are fetched."""


def image_hosts(
    timeout_s: float = 300.0, resolver: AbstractResolver | None = None, in_all: int = 64, **source: Any
) -> ImageHosts:
    """`source` are settings of [source]; private hosts are allowed, if they do not say otherwise."""
    config = SourceConfig.model_validate({"allow_private_hosts": True, **source})
    return ImageHosts(EndpointConfig(timeout_s=timeout_s), config, in_all, resolver)


def jumps(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Lets the clock of the running loop jump ahead, without a moment in which another task may run."""
    loop = asyncio.get_running_loop()
    real, ahead = loop.time, [0.0]
    monkeypatch.setattr(loop, "time", lambda: real() + sum(ahead))
    return ahead.append


@contextmanager
def image_host(files: Mapping[str, bytes | int | str]) -> Iterator[tuple[str, list[str]]]:
    """Serves files by path, statuses, and redirects; yields its address, and the paths asked for as a whole."""
    whole: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = files.get(self.path.partition("?")[0], 404)
            if self.headers.get("Range") is None:
                whole.append(self.path)
            data = found if isinstance(found, bytes) else b""
            self.send_response(found if isinstance(found, int) else 302 if isinstance(found, str) else 200)
            if isinstance(found, str):
                self.send_header("Location", found)
            self.send_header("Content-Type", "image/jpeg")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None: ...

    with serving(Handler) as url:
        yield url, whole
