"""One attempt at chat/completions: bytes out, `Answer` or `Failure` back."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from email.utils import formatdate
from typing import Final
from urllib.parse import urlsplit, urlunsplit

import aiohttp
from aiohttp import payload

from pipeline.config.sections import EndpointConfig
from pipeline.endpoints.answers import read_answer
from pipeline.endpoints.errors import excerpt, parse_json, read_failure
from pipeline.endpoints.ratelimit_headers import limits_told
from pipeline.endpoints.secrets import secrets_of
from pipeline.endpoints.session import failure_of, open_session
from pipeline.errors import ErrorKind, InputError
from pipeline.limits.budget import Amounts
from pipeline.limits.decision import SUCCESSES
from pipeline.records import Answer, Failure
from pipeline.redaction.redactor import Redactor, one_line, shown_variable

MAX_ANSWER_BYTES: Final = 16 << 20
LISTED_S: Final = 5.0
"""How long a run waits for a list of models that it can do without."""
NEEDED_S: Final = 15.0
"""How long for one that it cannot begin without."""


class ChatEndpoint:
    """An endpoint that speaks OpenAI's chat/completions. `session` comes from `wire.open_session`."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        endpoint: EndpointConfig,
        key: str | None,
        clock: Callable[[], float] = time.monotonic,
        epoch: Callable[[], float] = time.time,
        *,
        redactor: Redactor | None = None,
    ) -> None:
        """`clock` tells seconds, `epoch` since 1970. `redactor` knows the secrets of all endpoints; None: of this one.

        Raises InputError where key, headers or address cannot be sent.
        """
        self.url = _address(endpoint.base_url, "chat/completions")
        self._session, self._clock, self._epoch = session, clock, epoch
        self._redactor = Redactor(secrets_of(endpoint, key)) if redactor is None else redactor
        self._endpoint = endpoint
        self._headers = _headers(endpoint, key)
        self._models = _address(endpoint.base_url, "models")

    async def ask(self, body: bytes, most: Amounts | None = None) -> Answer | Failure:
        """One POST of a JSON body, never repeated. Whatever network and server do is a value.

        `most` is the predicted upper bound of the request: usage far beyond it is not believed.
        Cancelling it closes the connection. Redirects are not followed: the key is for this address alone.
        """
        started = self._clock()
        try:
            async with self._session.post(
                self.url, data=_JsonBody(body), headers=self._headers, allow_redirects=False
            ) as response:
                content = await _read(response)
        except (aiohttp.ClientError, OSError) as error:
            return self._told(error)
        if content is None:
            return _too_long(response.status)
        headers = self._dated(response.headers)
        latency_s = self._clock() - started
        answer = read_answer(response.status, headers, content, latency_s, self._redactor, most=most)
        told = limits_told(headers)
        return answer if told is None else replace(answer, limits=told)

    def _dated(self, headers: Mapping[str, str]) -> Mapping[str, str]:
        """Dates in headers count against the response's own; where it has none, against this machine's clock."""
        if "Date" in headers:
            return headers
        own = {name.lower(): value for name, value in headers.items()}
        return own | {"date": formatdate(self._epoch(), usegmt=True)}

    async def models(self) -> tuple[str, ...] | Failure:
        """The names that `GET /models` lists, in the endpoint's order."""
        listed = await self._listed(NEEDED_S)
        return listed if isinstance(listed, Failure) else tuple(filter(None, map(_model_name, listed)))

    async def also_known_as(self, model: str) -> tuple[str, ...]:
        """What `GET /models` says that a private name stands for; nothing where it says nothing, or not soon.

        Sources: vLLM, "OpenAI-Compatible Server" (`root`: the path or name of the weights); OpenRouter, "Models"
        (`canonical_slug`, `hugging_face_id`).
        """
        listed = await self._listed(LISTED_S)
        if isinstance(listed, Failure):
            return ()
        entry = next((item for item in listed if isinstance(item, Mapping) and _model_name(item) == model), {})
        names = (entry.get(field) for field in ("root", "canonical_slug", "hugging_face_id", "parent"))
        return tuple(name.rstrip("/") for name in names if isinstance(name, str) and name and name != model)

    async def _listed(self, within_s: float) -> Sequence[object] | Failure:
        """The entries of `GET /models`.

        A connection of its own: a server that closes it after the list without saying so would break the request that
        comes next on it.
        """
        timeout = aiohttp.ClientTimeout(total=within_s)
        try:
            async with (
                open_session(self._endpoint, connections=1) as session,
                session.get(self._models, headers=self._headers, allow_redirects=False, timeout=timeout) as response,
            ):
                content = await _read(response)
        except TimeoutError:
            message = f"{self._models} gives no list within {within_s:g} s"
            return Failure(kind=ErrorKind.TIMEOUT, message=one_line(message, self._redactor))
        except (aiohttp.ClientError, OSError) as error:
            return self._told(error)
        if content is None:
            return _too_long(response.status)
        if response.status not in SUCCESSES:
            failure = read_failure(response.status, response.headers, content, self._redactor)
            return self._redactor.result(failure)
        parsed = self._redactor.tree(parse_json(content))
        listed = parsed.get("data", parsed.get("models")) if isinstance(parsed, dict) else parsed
        if not isinstance(listed, list):
            message = one_line(f"{self._models} lists no models: {excerpt(content)}", self._redactor)
            return Failure(kind=ErrorKind.INVALID_RESPONSE, message=message, status=response.status)
        return listed

    def _told(self, error: Exception) -> Failure:
        failure = failure_of(error, self._redactor)
        if failure is None:
            raise error
        return failure


class _JsonBody(payload.BytesPayload):
    """Bytes to send as they are. aiohttp's own class warns of every body over 1 MB, which ours may be."""

    def __init__(self, body: bytes) -> None:
        payload.Payload.__init__(self, body, content_type="application/json")
        self._size = len(body)


async def _read(response: aiohttp.ClientResponse) -> bytes | None:
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


def _too_long(status: int) -> Failure:
    message = f"HTTP {status} with more than {MAX_ANSWER_BYTES:,} bytes, which is no answer"
    return Failure(kind=ErrorKind.INVALID_RESPONSE, message=message, status=status)


def _address(base_url: str, path: str) -> str:
    parts = urlsplit(base_url)
    if parts.username or parts.password:
        raise InputError("the base URL holds a login: take it out, and give the key in the environment variable")
    return urlunsplit(parts._replace(path=f"{parts.path.rstrip('/')}/{path}"))


def _headers(endpoint: EndpointConfig, key: str | None) -> dict[str, str]:
    headers = dict(endpoint.headers)
    for name, value in headers.items():
        if not _sendable(name) or not _sendable(value):
            raise InputError(f"endpoint.headers: {name!r} holds characters that no HTTP header may hold")
    key_header = endpoint.api_key_header
    if key is None or key_header.lower() in {name.lower() for name in headers}:
        return headers
    if not _sendable(key):
        name = shown_variable(endpoint.api_key_env)
        raise InputError(f"the key in {name} holds a line break or a character that is no ASCII: copy it again")
    bearer = key_header.lower() == "authorization"
    return {**headers, key_header: f"Bearer {key}" if bearer else key}


def _sendable(text: str) -> bool:
    return bool(text) and text.isascii() and text.isprintable()


def _model_name(item: object) -> str | None:
    if isinstance(item, Mapping):
        item = item.get("id") or item.get("name")
    return item if isinstance(item, str) and item else None
