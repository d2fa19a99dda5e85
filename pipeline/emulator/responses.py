"""Responses that are no answers: errors in the style asked for, and connections that end."""

import uuid
from collections.abc import Awaitable, Callable

from aiohttp import web

from pipeline.emulator.answers import FINGERPRINT
from pipeline.emulator.api_errors import ApiError
from pipeline.emulator.error_styles import ErrorStyle, styled

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
_CLIENT_GONE = 499


class DroppedError(Exception):
    """The connection is to be reset."""


class ErrorDesk:
    """Writes errors as one provider does."""

    def __init__(self, style: ErrorStyle, wall_ns: Callable[[], int]) -> None:
        self._style = style
        self._wall_ns = wall_ns

    def response(self, error: ApiError, request: web.Request) -> web.Response:
        """The error's response."""
        status, body = styled(self._style, error, request.path, self._wall_ns())
        return web.json_response(body, status=status, headers=error.headers)


def stamp(response: web.StreamResponse, spent_ns: int) -> None:
    """OpenAI's headers of every response."""
    response.headers["x-request-id"] = f"req_{uuid.uuid4().hex}"
    response.headers["openai-processing-ms"] = str(spent_ns // 1_000_000)
    response.headers["openai-version"] = "2020-10-01"
    response.headers["Server"] = FINGERPRINT


def hang_up(request: web.Request) -> web.Response:
    """Reset the connection; the client never receives the returned response."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response(status=_CLIENT_GONE)
