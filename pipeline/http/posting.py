"""Ready bodies to one address, over the connections of a session.

aiohttp's session makes each request anew, with cookies, redirects, middlewares and headers. To an endpoint all of that
is the same from the first request to the last, and costs more than sending and reading do together. So the head is made
once, by aiohttp's own `ClientRequest`, and a request is the head, a length and a body on one of the connector's
connections, read by aiohttp's own parser (client_reference, "Connectors"). What that path has no part for, proxies and
a timeout between two reads, goes through the session.
"""

import asyncio
from collections.abc import Mapping
from http import HTTPStatus
from math import inf
from typing import Final, NamedTuple
from weakref import WeakSet

import aiohttp
from aiohttp import payload
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection
from aiohttp.http import HttpProcessingError, RawResponseMessage
from yarl import URL

_CONTENT_TYPE: Final = "application/json"
_INTERIM: Final = frozenset(range(100, 200)) - {HTTPStatus.SWITCHING_PROTOCOLS}
"""Statuses of responses that another one follows."""
_APART_S: Final = 60.0
"""Without it a server that breaks off every second request of a connection has half of all requests fail, also those
that are sent again: some records fail six times."""

HEADER_BYTES, HEADERS = 64 * 1024, 512
"""Of one header, and how many: proxies add long ones, and an answer that is thrown away for them has been paid for."""


class Reply(NamedTuple):
    """A response that was read to its end."""

    status: int
    headers: Mapping[str, str]
    """Case-insensitive."""
    body: bytes | None
    """None where it is longer than what is read; then its connection is given up."""


class JsonBody(payload.BytesPayload):
    """Bytes to send as they are. aiohttp's own class warns of every body over 1 MB, which ours may be."""

    def __init__(self, body: bytes) -> None:
        payload.Payload.__init__(self, body, content_type=_CONTENT_TYPE)
        self._size = len(body)


class Poster:
    """POSTs JSON to one address. Redirects are not followed: the headers are for this address alone."""

    def __init__(
        self, session: aiohttp.ClientSession, url: str, headers: Mapping[str, str], *, max_bytes: int, proxied: bool
    ) -> None:
        """Inside the running loop. `max_bytes` of a response are read at most; `proxied`: the session has a proxy."""
        self._session, self._url, self._headers, self._max_bytes = session, url, headers, max_bytes
        self._is_direct = not proxied and session.timeout.sock_read is None
        self._kept: WeakSet[ResponseHandler] = WeakSet()
        self._apart_until = -inf
        """Until then each request has a connection of its own, by the loop's clock."""
        self._request = self._without_body()
        lines = [f"POST {self._request.url.raw_path_qs} HTTP/1.1", *map(": ".join, self._request.headers.items())]
        self._head = "\r\n".join([*lines, "Content-Length: "]).encode()

    async def post(self, body: bytes) -> Reply:
        """One request. Raises aiohttp.ClientError or OSError for what the network and the server do.

        Cancelling it closes the connection.
        """
        if not self._is_direct:
            return await self._by_session(body)
        async with asyncio.timeout(self._session.timeout.total):
            connection = await self._connected()
            try:
                reply = await self._exchanged(connection, body)
                self._keep(connection, reply)
            except BaseException as error:
                if isinstance(error, (aiohttp.ServerDisconnectedError, OSError)) and self._is_kept(connection):
                    self._apart_until = asyncio.get_running_loop().time() + _APART_S
                connection.close()
                raise
        return reply

    def _keep(self, connection: Connection, reply: Reply) -> None:
        """Its connection serves another request, where that is safe."""
        protocol, transport = connection.protocol, connection.transport
        if reply.body is None or protocol is None or transport is None or transport.get_write_buffer_size():
            connection.close()  # a server that answers before it has read the request has not kept in step
        elif self._is_apart:
            connection.close()
        else:
            self._kept.add(protocol)
            connection.release()

    def _is_kept(self, connection: Connection) -> bool:
        return connection.protocol in self._kept

    @property
    def _is_apart(self) -> bool:
        """Whether the server broke off a connection that had served before, a moment ago: it may do so again."""
        return asyncio.get_running_loop().time() < self._apart_until

    async def _by_session(self, body: bytes) -> Reply:
        async with self._session.post(
            self._url, data=JsonBody(body), headers=self._headers, allow_redirects=False
        ) as response:
            content = await read_whole(response.content, self._max_bytes)
            if content is None:
                response.close()
            return Reply(response.status, response.headers, content)

    async def _connected(self) -> Connection:
        connection = await self._taken()
        while self._is_apart and self._is_kept(connection):
            connection.close()
            connection = await self._taken()
        return connection

    async def _taken(self) -> Connection:
        """One that was kept, or a new one."""
        connector = self._session.connector
        if connector is None:
            raise RuntimeError("the session is closed")
        try:
            return await connector.connect(self._request, traces=[], timeout=self._session.timeout)
        except TimeoutError as error:
            raise aiohttp.ConnectionTimeoutError(f"connection timeout to {self._request.url.host}") from error

    def _without_body(self) -> aiohttp.ClientRequest:
        """What all requests have in common."""
        url, headers = URL(self._url), self._session.headers
        request = aiohttp.ClientRequest("POST", url, headers=headers, session=self._session)
        request.headers.update(self._headers)
        request.headers.setdefault("Content-Type", _CONTENT_TYPE)
        del request.headers["Content-Length"]
        return request

    async def _exchanged(self, connection: Connection, body: bytes) -> Reply:
        protocol, transport = connection.protocol, connection.transport
        if protocol is None or transport is None:
            raise aiohttp.ServerDisconnectedError
        protocol.set_response_params(
            read_until_eof=True, max_line_size=HEADER_BYTES, max_field_size=HEADER_BYTES, max_headers=HEADERS
        )
        transport.writelines((self._head, b"%d\r\n\r\n" % len(body), body))
        message, content = await self._read(protocol)
        while message.code in _INTERIM:
            message, content = await self._read(protocol)
        return Reply(message.code, message.headers, await read_whole(content, self._max_bytes))

    async def _read(self, protocol: ResponseHandler) -> tuple[RawResponseMessage, aiohttp.StreamReader]:
        try:
            return await protocol.read()
        except HttpProcessingError as error:
            raise aiohttp.ClientResponseError(
                self._request.request_info, (), status=error.code, message=error.message
            ) from error


async def read_whole(stream: aiohttp.StreamReader, max_bytes: int) -> bytes | None:
    """All of a body; None where it is longer than `max_bytes`."""
    body = await stream.readany()
    if stream.at_eof():
        return body if len(body) <= max_bytes else None
    chunks, size = [body], len(body)
    while size <= max_bytes:
        chunk = await stream.readany()
        if not chunk:
            return b"".join(chunks)
        chunks.append(chunk)
        size += len(chunk)
    return None
