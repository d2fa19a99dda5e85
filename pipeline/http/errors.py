"""What exceptions of the network mean: the one place where foreign errors become a `Failure`.

What never reached the server is UNREACHABLE (DNS, connect, TLS, proxy). What broke once the connection stood is
CONNECTION, and may have been billed. What took too long there is TIMEOUT.
"""

import errno
import os
import socket
import ssl
from http import HTTPStatus
from typing import Final

import aiohttp

from pipeline.errors import ErrorKind, ResourceError
from pipeline.records import Failure
from pipeline.redaction.redactor import NOTHING_SECRET, Redactor, one_line

_NO_HANDLES: Final = frozenset({errno.EMFILE, errno.ENFILE})

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
        "no TLS with {where} ({reason}): use http:// if the server has no certificate",
    ),
    (aiohttp.ServerFingerprintMismatch, ErrorKind.UNREACHABLE, "the certificate is not the expected one"),
    (
        (aiohttp.ClientConnectorDNSError, socket.gaierror),
        ErrorKind.UNREACHABLE,
        "{where}: the host is not known (DNS: {reason})",
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
        "{server} sent nothing within endpoint.first_byte_timeout_s",
    ),
    (TimeoutError, ErrorKind.TIMEOUT, "no complete answer within endpoint.timeout_s"),
    (
        aiohttp.ClientPayloadError,
        ErrorKind.CONNECTION,
        "{server} closed the connection in the middle of the answer",
    ),
    (
        aiohttp.ServerDisconnectedError,
        ErrorKind.CONNECTION,
        "{server} closed the connection before it answered",
    ),
    (aiohttp.TooManyRedirects, ErrorKind.INVALID_RESPONSE, "{server} redirects too often"),
    (aiohttp.ClientResponseError, ErrorKind.INVALID_RESPONSE, "{server} does not answer in HTTP ({reason})"),
    ((aiohttp.ClientError, OSError), ErrorKind.CONNECTION, "the connection broke ({reason})"),
)
_OUR_BUGS: Final = (aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError)


def failure_of(
    error: BaseException, redactor: Redactor = NOTHING_SECRET, *, server: str = "the endpoint"
) -> Failure | None:
    """What an exception of the network means, by its type; None where it is not the network's.

    `server` is what the message calls the other side.
    `redactor` cleans the message: exceptions quote addresses, and proxies and servers what they were sent.
    Raises ResourceError where this machine has no file handle left for another connection.
    """
    number = _number(error)
    if number in _NO_HANDLES:
        raise ResourceError(
            "no file handle left for another connection: raise the limit (ulimit -n 4096) or lower `limits.concurrency`"
        ) from error
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return _proxy_failure(error, redactor)
    if isinstance(error, _OUR_BUGS):
        return None
    if number == errno.ECONNREFUSED and not isinstance(error, aiohttp.ClientProxyConnectionError):
        return _failure(ErrorKind.UNREACHABLE, "no server listens on {where} ({reason})", error, redactor, server)
    for types, kind, words in _MEANINGS:
        if isinstance(error, types):
            return _failure(kind, words, error, redactor, server)
    return None


def _failure(kind: ErrorKind, words: str, error: BaseException, redactor: Redactor, server: str) -> Failure:
    message = words.format(where=_where(error, server), reason=_reason(error), server=server)
    return Failure(kind=kind, message=one_line(message, redactor))


def _proxy_failure(error: aiohttp.ClientHttpProxyError, redactor: Redactor) -> Failure:
    login = error.status == HTTPStatus.PROXY_AUTHENTICATION_REQUIRED
    advice = ": it requires a login, http://USER:PASSWORD@HOST:PORT" if login else ""
    message = f"the proxy rejects the connection (HTTP {error.status} {error.message}){advice}"
    kind = ErrorKind.AUTHENTICATION if login else ErrorKind.UNREACHABLE
    return Failure(kind=kind, message=one_line(message, redactor), status=error.status)


def _where(error: BaseException, server: str) -> str:
    """`https://host:port` as dialled, where the exception holds it."""
    if not isinstance(error, aiohttp.ClientConnectorError):
        return server
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
