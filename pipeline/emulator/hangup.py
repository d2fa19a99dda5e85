"""Waiting for a client to hang up, which aiohttp tells a handler only where it may be cancelled."""

import asyncio
from collections.abc import Coroutine
from typing import Any, cast

from aiohttp import web
from aiohttp.http_websocket import WebSocketReader


class _Ear:
    """Takes the place of a parser, as an upgraded connection's does, and hears only the end."""

    def __init__(self) -> None:
        self.ended = asyncio.Event()

    def feed_data(self, _: bytes) -> tuple[bool, bytes]:
        return False, b""

    def feed_eof(self) -> None:
        self.ended.set()


async def wait_for_hangup(request: web.Request, longest: Coroutine[Any, Any, None]) -> None:
    """Return when the client has closed the connection, or when `longest` is over.

    The connection is of no use afterwards: what comes in until then is thrown away.
    """
    ear = _Ear()
    request.protocol.set_parser(cast("WebSocketReader", ear))
    waits = [asyncio.ensure_future(longest), asyncio.ensure_future(ear.ended.wait())]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
