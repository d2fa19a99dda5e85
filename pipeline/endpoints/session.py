"""The HTTP session of an endpoint, and the one place where foreign errors become ours.

What never reached the endpoint is UNREACHABLE (DNS, connect, TLS, proxy); what broke once the connection
stood is CONNECTION, and may have been billed; what took too long there is TIMEOUT.
"""

import errno
import os
import socket
import ssl
from functools import lru_cache
from http import HTTPStatus
from importlib import metadata
from typing import Final
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp

from pipeline.config.base_urls import checked_address, is_loopback
from pipeline.config.sections import EndpointConfig
from pipeline.errors import ErrorKind, InputError, ResourceError
from pipeline.records import Failure
from pipeline.redaction.redactor import NOTHING_SECRET, Redactor, one_line

CA_VARIABLES: Final = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
PROXIES: Final = 1024
"""Hosts whose proxy is remembered."""
_KEEP_ALIVE_S: Final = 4.0
"""Below the 5 s after which uvicorn and Node close an idle connection: one that is reused must still stand."""
_IMAGE_SILENCE_S: Final = 120.0
"""A host of images that sends nothing for so long is given up, where no other time is set."""

_NO_HANDLES: Final = frozenset({errno.EMFILE, errno.ENFILE})


def version() -> str:
    """Of the installed package."""
    try:
        return metadata.version("vision-batch")
    except metadata.PackageNotFoundError:  # a checkout that was never installed
        return "0"


USER_AGENT: Final = f"vision-batch/{version()}"


def open_session(endpoint: EndpointConfig, connections: int = 0) -> aiohttp.ClientSession:
    """A pooled session for one endpoint; use it with `async with`, inside the running loop.

    `connections` is the most requests ever in flight; 0 where the caller sees to that. Raises InputError where
    the CA file or the proxy cannot be used.
    """
    silence_s = endpoint.first_byte_timeout_s
    return _session(endpoint, connections, ssl_context(endpoint), proxy_of(endpoint), silence_s)


def open_image_session(endpoint: EndpointConfig, connections: int) -> aiohttp.ClientSession:
    """The same for images that are fetched from anywhere: no key, and the proxy is each address's (`proxy_for`).

    Trusted are the system's authorities, or the environment's, and the one of the endpoint besides them.
    """
    silence_s = endpoint.first_byte_timeout_s or _IMAGE_SILENCE_S
    return _session(endpoint, connections, _image_context(endpoint), None, silence_s)


def _session(
    endpoint: EndpointConfig,
    connections: int,
    context: ssl.SSLContext | None,
    proxy: str | None,
    silence_s: float | None,
) -> aiohttp.ClientSession:
    connector = aiohttp.TCPConnector(
        limit=connections,
        keepalive_timeout=_KEEP_ALIVE_S,
        ttl_dns_cache=60,
        ssl=context or True,
    )
    timeout = aiohttp.ClientTimeout(
        total=endpoint.timeout_s,
        connect=endpoint.connect_timeout_s,  # DNS too; nobody waits for a free connection, the pool has all
        sock_connect=endpoint.connect_timeout_s,
        sock_read=silence_s,
    )
    return aiohttp.ClientSession(
        connector=connector,
        timeout=timeout,
        headers={"User-Agent": USER_AGENT},
        cookie_jar=aiohttp.DummyCookieJar(),
        proxy=proxy,
        trust_env=False,  # proxy_of() read it once; aiohttp would read it, and netrc, for every request
    )


def proxy_of(endpoint: EndpointConfig) -> str | None:
    """The proxy to use: the configured one, else the environment's, never the environment's for loopback."""
    if endpoint.proxy:
        return _http_proxy(endpoint.proxy, "endpoint.proxy")
    return proxy_for(endpoint.base_url)


def proxy_for(address: str) -> str | None:
    """The environment's proxy for an address; None for a host of this machine, and where `NO_PROXY` names it."""
    target = urlsplit(address)
    if is_loopback(address) or proxy_bypass(target.hostname or ""):
        return None
    proxies = getproxies()
    found = proxies.get(target.scheme) or proxies.get("all")
    return _http_proxy(found, f"{target.scheme.upper()}_PROXY") if found else None


class Proxies:
    """`proxy_for` many addresses: asked once a host, for the environment does not change. None for what is no address.

    Raises InputError where the environment names a proxy that is none.
    """

    def __init__(self) -> None:
        self._of_host = lru_cache(PROXIES)(proxy_for)

    def __call__(self, address: str) -> str | None:
        scheme, _, rest = address.partition("://")
        try:
            return self._of_host(f"{scheme.lower()}://{rest.partition('/')[0]}")
        except ValueError:  # the attempt to fetch it says so
            return None


def _http_proxy(address: str, where: str) -> str:
    address = address if "://" in address else f"http://{address}"
    try:
        checked_address(address)
    except ValueError as error:
        raise InputError(f"{where}: a proxy must be http://HOST:PORT or https://HOST:PORT: {error}") from None
    return address


def ssl_context(endpoint: EndpointConfig) -> ssl.SSLContext | None:
    """Trust exactly the CA file that the configuration or the environment names; None: the system's."""
    if endpoint.ca_file is not None:
        return _trusting(str(endpoint.ca_file), "endpoint.ca_file")
    if urlsplit(endpoint.base_url).scheme != "https":
        return None
    named = _named_authority()
    return _trusting(*named) if named else None


def _image_context(endpoint: EndpointConfig) -> ssl.SSLContext | None:
    named = _named_authority()
    if endpoint.ca_file is None:
        return _trusting(*named) if named else None
    context = _trusting(*named) if named else ssl.create_default_context()
    return _trusting(str(endpoint.ca_file), "endpoint.ca_file", context)


def _named_authority() -> tuple[str, str] | None:
    """The environment's CA file, and the variable that names it."""
    return next(((os.environ[name], name) for name in CA_VARIABLES if os.environ.get(name)), None)


def _trusting(path: str, where: str, besides: ssl.SSLContext | None = None) -> ssl.SSLContext:
    """A context that trusts exactly the authorities at `path`, or these too `besides` its own."""
    try:
        context = _context(path) if besides is None else besides
        if besides is not None:
            besides.load_verify_locations(path)
    except ssl.SSLError:
        raise InputError(f"{where}: {path} holds no certificate in PEM format") from None
    except OSError as error:
        raise InputError(f"{where}: {path}: {error.strerror or error}") from None
    context.set_alpn_protocols(["http/1.1"])
    return context


def _context(path: str) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=path)
    except IsADirectoryError:
        return ssl.create_default_context(capath=path)


_Meaning = tuple[type[Exception] | tuple[type[Exception], ...], ErrorKind, str]

# The first that fits: subclasses stand before what they derive from.
_MEANINGS: Final[tuple[_Meaning, ...]] = (
    (
        (aiohttp.ClientConnectorCertificateError, ssl.SSLCertVerificationError),
        ErrorKind.UNREACHABLE,
        (
            "the certificate of {where} is not trusted ({reason}). If your own authority signed it, "
            "name that authority's PEM file as endpoint.ca_file"
        ),
    ),
    (
        aiohttp.ClientConnectorSSLError,
        ErrorKind.UNREACHABLE,
        "no TLS with {where} ({reason}): does it speak http:// instead?",
    ),
    (aiohttp.ServerFingerprintMismatch, ErrorKind.UNREACHABLE, "the certificate is not the expected one"),
    (
        (aiohttp.ClientConnectorDNSError, socket.gaierror),
        ErrorKind.UNREACHABLE,
        "{where}: the name is not known (DNS: {reason})",
    ),
    (
        aiohttp.ClientProxyConnectionError,
        ErrorKind.UNREACHABLE,
        "the proxy {where} cannot be reached ({reason})",
    ),
    (aiohttp.ClientConnectorError, ErrorKind.UNREACHABLE, "{where} cannot be reached ({reason})"),
    (
        aiohttp.ConnectionTimeoutError,
        ErrorKind.UNREACHABLE,
        "no connection within endpoint.connect_timeout_s ({reason})",
    ),
    (
        aiohttp.SocketTimeoutError,
        ErrorKind.TIMEOUT,
        "the endpoint sent nothing within endpoint.first_byte_timeout_s",
    ),
    (TimeoutError, ErrorKind.TIMEOUT, "no complete answer within endpoint.timeout_s"),
    (
        aiohttp.ClientPayloadError,
        ErrorKind.CONNECTION,
        "the endpoint closed the connection in the middle of the answer",
    ),
    (
        aiohttp.ServerDisconnectedError,
        ErrorKind.CONNECTION,
        "the endpoint closed the connection before it answered",
    ),
    (aiohttp.ClientResponseError, ErrorKind.INVALID_RESPONSE, "the endpoint does not answer in HTTP ({reason})"),
    ((aiohttp.ClientError, OSError), ErrorKind.CONNECTION, "the connection broke ({reason})"),
)
_OUR_BUGS: Final = (aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError)


def failure_of(error: BaseException, redactor: Redactor = NOTHING_SECRET) -> Failure | None:
    """What an exception of the network means, by its type; None where it is not the network's.

    `redactor` cleans the message: exceptions quote addresses, and proxies and servers what they were sent.
    Raises ResourceError where this machine has no file handle left for another connection.
    """
    number = _number(error)
    if number in _NO_HANDLES:
        raise ResourceError(
            "no file handle left for another connection: raise the limit (ulimit -n 4096) or lower `limits.concurrency`"
        ) from error
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return _proxy_refusal(error, redactor)
    if isinstance(error, _OUR_BUGS):
        return None
    if number == errno.ECONNREFUSED and not isinstance(error, aiohttp.ClientProxyConnectionError):
        return _failure(ErrorKind.UNREACHABLE, "nobody listens on {where} ({reason})", error, redactor)
    for types, kind, words in _MEANINGS:
        if isinstance(error, types):
            return _failure(kind, words, error, redactor)
    return None


def _failure(kind: ErrorKind, words: str, error: BaseException, redactor: Redactor) -> Failure:
    message = words.format(where=_where(error), reason=_reason(error))
    return Failure(kind=kind, message=one_line(message, redactor))


def _proxy_refusal(error: aiohttp.ClientHttpProxyError, redactor: Redactor) -> Failure:
    login = error.status == HTTPStatus.PROXY_AUTHENTICATION_REQUIRED
    advice = ": it wants a login, http://USER:PASSWORD@HOST:PORT" if login else ""
    message = f"the proxy refuses the connection (HTTP {error.status} {error.message}){advice}"
    kind = ErrorKind.AUTHENTICATION if login else ErrorKind.UNREACHABLE
    return Failure(kind=kind, message=one_line(message, redactor), status=error.status)


def _where(error: BaseException) -> str:
    """`https://host:port` as dialled, where the exception knows it."""
    if not isinstance(error, aiohttp.ClientConnectorError):
        return "the endpoint"
    host = f"[{error.host}]" if ":" in error.host else error.host
    if isinstance(error, aiohttp.ClientProxyConnectionError):
        return f"{host}:{error.port}"
    tls = getattr(error.args[0], "is_ssl", False)  # error.ssl is the setting, whatever was dialled
    return f"{'https' if tls else 'http'}://{host}:{error.port}"


def _inner(error: BaseException) -> BaseException:
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return error.certificate_error
    return error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error


def _number(error: BaseException) -> int | None:
    inner = _inner(error)
    return inner.errno if isinstance(inner, OSError) else None


def _reason(error: BaseException) -> str:
    """What the system calls it, without addresses and numbers."""
    match inner := _inner(error):
        case ssl.SSLCertVerificationError():
            return inner.verify_message
        case ssl.SSLError():
            return (getattr(inner, "reason", None) or str(inner)).replace("_", " ").lower()
        case socket.gaierror():
            return str(inner.strerror or inner)
        case OSError(errno=int(number)) if number > 0:
            return os.strerror(number).lower()
        case _:
            return str(getattr(inner, "message", "")) or str(inner) or type(inner).__name__
