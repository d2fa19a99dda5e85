"""HTTP sessions: one for each endpoint, and one for images that are fetched from anywhere."""

import socket
import ssl
from collections.abc import Callable
from typing import Final

import aiohttp
from aiohttp.abc import AbstractResolver
from aiohttp.connector import AddrInfoType

from pipeline.config.sections import EndpointConfig
from pipeline.http.agent import USER_AGENT
from pipeline.http.posting import HEADER_BYTES, HEADERS
from pipeline.http.proxies import proxy_of
from pipeline.http.tls import image_context, ssl_context

_KEEP_ALIVE_S: Final = 4.0
"""Below the 5 s after which uvicorn and Node close an idle connection: one that is reused must still stand."""
_IMAGE_SILENCE_S: Final = 120.0
"""A host of images that sends nothing for this long is given up, where no other time is set."""


def open_session(endpoint: EndpointConfig, connections: int = 0) -> aiohttp.ClientSession:
    """A pooled session for one endpoint; use it with `async with`, inside the running loop.

    `connections` is the most requests ever in flight; 0 where the caller sees to that. Raises InputError where
    the CA file or the proxy cannot be used.
    """
    silence_s = endpoint.first_byte_timeout_s
    return _session(endpoint, connections, ssl_context(endpoint), proxy_of(endpoint), silence_s)


def open_image_session(
    endpoint: EndpointConfig,
    connections: int,
    *,
    make_socket: Callable[[AddrInfoType], socket.socket] | None = None,
    resolver: AbstractResolver | None = None,
) -> aiohttp.ClientSession:
    """The same for images that are fetched from anywhere: no key, and the proxy is each address's (`proxy_for`).

    Trusted are the system's authorities, or the environment's, and the one of the endpoint besides them.
    `make_socket` is called with each address that is about to be connected to.
    """
    silence_s = endpoint.first_byte_timeout_s or _IMAGE_SILENCE_S
    context = image_context(endpoint)
    return _session(endpoint, connections, context, None, silence_s, make_socket=make_socket, resolver=resolver)


def _session(
    endpoint: EndpointConfig,
    connections: int,
    context: ssl.SSLContext | None,
    proxy: str | None,
    silence_s: float | None,
    *,
    make_socket: Callable[[AddrInfoType], socket.socket] | None = None,
    resolver: AbstractResolver | None = None,
) -> aiohttp.ClientSession:
    connector = aiohttp.TCPConnector(
        socket_factory=make_socket,
        resolver=resolver,
        limit=connections,
        keepalive_timeout=_KEEP_ALIVE_S,
        ttl_dns_cache=60,
        ssl=context or True,
    )
    timeout = aiohttp.ClientTimeout(
        total=endpoint.timeout_s,
        connect=endpoint.connect_timeout_s,  # DNS too; no request waits for a free connection, the pool has all
        sock_connect=endpoint.connect_timeout_s,
        sock_read=silence_s,
    )
    return aiohttp.ClientSession(
        connector=connector,
        timeout=timeout,
        headers={"User-Agent": USER_AGENT},
        cookie_jar=aiohttp.DummyCookieJar(),
        max_line_size=HEADER_BYTES,
        max_field_size=HEADER_BYTES,
        max_headers=HEADERS,
        proxy=proxy,
        trust_env=False,  # proxy_of() read it once; aiohttp would read it, and netrc, for every request
    )
