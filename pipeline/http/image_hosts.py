"""Hosts of images, which anybody may have named: requests to public addresses alone, a few of each host at once.

What is checked is what is connected to: each socket is made for an address that was found public, so that neither an
odd spelling, nor DNS that changes in between, nor a redirect leads into a private network. Behind a proxy, which
resolves the names, an address is checked by what is written.
"""

import re
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from http import HTTPStatus
from typing import Final, Self, TypeVar

import aiohttp
import anyio
from aiohttp.abc import AbstractResolver
from aiohttp.connector import AddrInfoType
from yarl import URL

from pipeline.cloud.objects import ObjectStores
from pipeline.config.sections import EndpointConfig, SourceConfig
from pipeline.errors import ErrorKind
from pipeline.formatting import printable
from pipeline.http.errors import failure_of
from pipeline.http.hub import hub_endpoint, hub_token
from pipeline.http.proxies import Proxies
from pipeline.http.public import is_private_by_name, is_public_address
from pipeline.http.session import open_image_session
from pipeline.http.values import retry_after
from pipeline.records import Failure
from pipeline.redaction.addresses import public_url

T = TypeVar("T")
Read = Callable[[aiohttp.ClientResponse], Awaitable[T | Failure]]
Uncounted = Callable[[Awaitable[None]], Awaitable[None]]
"""Awaits what is no fault of the host, and does not count it against the host's time."""

MOST_REDIRECTS: Final = 5
_SENDABLE: Final = re.compile(r"[!-~]+")
"""What an address may consist of without any further quoting."""
_SHOWN_LETTERS: Final = 200
_PHRASES: Final = {status.value: status.phrase for status in HTTPStatus}
_GONE: Final = frozenset({HTTPStatus.NOT_FOUND, HTTPStatus.GONE})
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_WAY_OUT: Final = "images are fetched from public hosts only, unless source.allow_private_hosts is set"


async def counted(waiting: Awaitable[None]) -> None:
    """What counts against the time of a whole request."""
    await waiting


class PrivateAddressError(OSError):
    """A connection to an address that is not public was about to be made."""


class Permits:
    """Bounds the requests under way: of each host, and of all together."""

    def __init__(self, per_host: int, in_all: int) -> None:
        self._per_host, self._all = per_host, anyio.Semaphore(in_all)
        self._hosts: dict[str, tuple[anyio.Semaphore, int]] = {}
        """Of each host that is asked or waited for: its semaphore, and how many use it."""

    @asynccontextmanager
    async def held(self, host: str, uncounted: Uncounted) -> AsyncIterator[None]:
        """The host's comes first: who waits for a slow host keeps no request to another one from being sent."""
        own, users = self._hosts.get(host) or (anyio.Semaphore(self._per_host), 0)
        self._hosts[host] = own, users + 1
        try:
            await uncounted(own.acquire())
            try:
                await uncounted(self._all.acquire())
                try:
                    yield
                finally:
                    self._all.release()
            finally:
                own.release()
        finally:
            _, users = self._hosts.pop(host)
            if users > 1:
                self._hosts[host] = own, users - 1


class ImageHosts:
    """Sends the requests for images. Use it with `async with`, inside the running loop."""

    def __init__(
        self, endpoint: EndpointConfig, source: SourceConfig, connections: int, resolver: AbstractResolver | None = None
    ) -> None:
        self._permits = Permits(source.per_host, connections)
        self._allows_private = source.allow_private_hosts
        self.proxy_of = Proxies()
        """The environment's, for an address. Raises InputError for one that cannot be used."""
        self._make = partial(open_image_session, endpoint, connections, resolver=resolver)
        self._public, self._any = self._make(make_socket=_public_socket), list[aiohttp.ClientSession]()
        self.timeout = self._public.timeout
        self._token, self._hub = hub_token(), f"{URL(hub_endpoint()).origin()}/"
        """The token goes to the hub's own addresses, where the user has named them."""
        self.stores = ObjectStores(endpoint.timeout_s, endpoint.connect_timeout_s, connections)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for session in (self._public, *self._any):
            await session.close()

    async def get(
        self,
        url: str,
        read: Read[T],
        *,
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109 - aiohttp's own
        headers: Mapping[str, str],
        is_trusted: bool,
        uncounted: Uncounted,
    ) -> T | Failure:
        """One GET, with its redirects. The failure's message does not repeat the address, which may be signed.

        The host of an address that `is_trusted` may be private; one that it redirects to may not.
        """
        moved: str | None = None
        try:
            target = _target(url)
            trusted = target.raw_host if is_trusted else None
            for _ in range(MOST_REDIRECTS + 1):
                found: T | Failure | _Moved | None = self._flaw(target, trusted)
                if found is None:
                    found = await self._one(
                        target, trusted, read, timeout=timeout, headers=headers, uncounted=uncounted
                    )
                if not isinstance(found, _Moved):
                    return _behind(moved, found) if isinstance(found, Failure) else found
                moved = found.to
                target = target.join(_target(moved))
                moved = str(target)
        except (aiohttp.InvalidURL, ValueError):
            return _behind(moved, Failure(kind=ErrorKind.IMAGE_UNSUPPORTED, message="not a valid address"))
        except TimeoutError:
            return _behind(moved, Failure(kind=ErrorKind.FETCH_TIMEOUT, message="no answer in time"))
        except (aiohttp.ClientError, OSError) as error:
            return _behind(moved, _failure(error))
        return Failure(kind=ErrorKind.FETCH_FAILED, message="the host redirects too often")

    async def _one(
        self,
        target: URL,
        trusted: str | None,
        read: Read[T],
        *,
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109 - aiohttp's own
        headers: Mapping[str, str],
        uncounted: Uncounted,
    ) -> "T | Failure | _Moved":
        proxy, host = self.proxy_of(str(target)), target.raw_host or ""
        if host == trusted and self._token is not None and f"{target.origin()}/" == self._hub:
            headers = {**headers, "Authorization": f"Bearer {self._token}"}
        is_open = self._allows_private or proxy is not None or host == trusted
        session = self._unguarded() if is_open else self._public
        async with (
            self._permits.held(host, uncounted),
            session.get(target, headers=headers, proxy=proxy, timeout=timeout, allow_redirects=False) as response,
        ):
            if response.status in _REDIRECTS and "Location" in response.headers:
                return _Moved(response.headers["Location"])
            if response.status >= HTTPStatus.MULTIPLE_CHOICES:
                return _status_failure(response)
            return await read(response)

    def _unguarded(self) -> aiohttp.ClientSession:
        """For hosts that may be private, and for proxies, which may be as well. Made when it is needed."""
        if not self._any:
            self._any.append(self._make())
        return self._any[0]

    def _flaw(self, target: URL, trusted: str | None) -> Failure | None:
        """Why an address is not asked."""
        if target.scheme.lower() not in {"http", "https"}:
            return Failure(kind=ErrorKind.IMAGE_UNSUPPORTED, message="only http and https are fetched")
        host = target.raw_host or ""
        if not host or ("%" in host and ":" not in host):  # a proxy could read an address out of it
            return Failure(kind=ErrorKind.IMAGE_UNSUPPORTED, message="not a valid address")
        if self._allows_private or host == trusted or not is_private_by_name(host):
            return None
        what = "is no public address" if is_public_address(host) is False else "is a name of a local network"
        return Failure(kind=ErrorKind.FETCH_FORBIDDEN, message=f"{printable(host)} {what}; {_WAY_OUT}")


@dataclass(frozen=True, slots=True)
class _Moved:
    """What a host answered that sends the request elsewhere."""

    to: str


def _behind(moved: str | None, failure: Failure) -> Failure:
    """The failure of an address that a host redirected to, which it names."""
    if moved is None:
        return failure
    to = printable(public_url(moved.partition("#")[0].partition("?")[0]))
    return replace(failure, message=f"redirected to {to[:_SHOWN_LETTERS]}: {failure.message}")


def _target(url: str) -> URL:
    """An address that is already quoted is sent as it is: a signature covers every character."""
    return URL(url, encoded=_SENDABLE.fullmatch(url) is not None)


def _public_socket(address: AddrInfoType) -> socket.socket:
    """A socket for a connection to this address. Raises PrivateAddressError where it is not public."""
    family, kind, protocol, _, where = address
    if is_public_address(str(where[0])) is not True:
        raise PrivateAddressError("not a public address")  # the same for all addresses of a name: they are one error
    return socket.socket(family, kind, protocol)


def _status_failure(response: aiohttp.ClientResponse) -> Failure:
    status = response.status
    return Failure(
        kind=ErrorKind.IMAGE_MISSING if status in _GONE else ErrorKind.FETCH_STATUS,
        message=f"HTTP {status} {_PHRASES.get(status, '')}".rstrip(),
        status=status,
        retry_after_s=retry_after(response.headers),
    )


def _failure(error: aiohttp.ClientError | OSError) -> Failure:
    """Raises what is no failure of the network: a bug."""
    if isinstance(error, aiohttp.ClientConnectorError) and isinstance(error.os_error, PrivateAddressError):
        message = f"{printable(error.host)} leads to an address that is not public; {_WAY_OUT}"
        return Failure(kind=ErrorKind.FETCH_FORBIDDEN, message=message)
    failure = failure_of(error, server="the host")
    if failure is None:
        raise error
    return Failure(kind=ErrorKind.FETCH_FAILED, message=failure.message)
