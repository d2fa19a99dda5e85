"""Bytes to and from an endpoint over one connection."""

from typing import Final

import aiohttp
from aiohttp import payload

from pipeline.errors import ErrorKind
from pipeline.http.errors import failure_of
from pipeline.records import Failure
from pipeline.redaction.redactor import Redactor

MAX_ANSWER_BYTES: Final = 16 << 20


class JsonBody(payload.BytesPayload):
    """Bytes to send as they are. aiohttp's own class warns of every body over 1 MB, which ours may be."""

    def __init__(self, body: bytes) -> None:
        payload.Payload.__init__(self, body, content_type="application/json")
        self._size = len(body)


async def read_body(response: aiohttp.ClientResponse) -> bytes | None:
    """The body, None where it is longer than any answer (and the connection is given up)."""
    stream = response.content
    body = await stream.readany()
    if stream.at_eof():
        return body if len(body) <= MAX_ANSWER_BYTES else None
    chunks, size = [body], len(body)
    while size <= MAX_ANSWER_BYTES:
        chunk = await stream.readany()
        if not chunk:
            return b"".join(chunks)
        chunks.append(chunk)
        size += len(chunk)
    response.close()
    return None


def too_long(status: int) -> Failure:
    """A body of more than `MAX_ANSWER_BYTES`."""
    message = f"HTTP {status} with more than {MAX_ANSWER_BYTES:,} bytes, which is no answer"
    return Failure(kind=ErrorKind.INVALID_RESPONSE, message=message, status=status)


def network_failure(error: Exception, redactor: Redactor) -> Failure:
    """What an exception of the network means. Raises the exception where it is a bug of ours."""
    failure = failure_of(error, redactor)
    if failure is None:
        raise error
    return failure
