"""Which certificate authorities a connection trusts."""

import os
import ssl
from typing import Final
from urllib.parse import urlsplit

from pipeline.config.sections import EndpointConfig
from pipeline.errors import InputError

CA_VARIABLES: Final = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")


def ssl_context(endpoint: EndpointConfig) -> ssl.SSLContext | None:
    """Trust exactly the CA file that the configuration or the environment names; None: the system's."""
    if endpoint.ca_file is not None:
        return _trusting(str(endpoint.ca_file), "endpoint.ca_file")
    if urlsplit(endpoint.base_url).scheme != "https":
        return None
    named = _named_authority()
    return _trusting(*named) if named else None


def image_context(endpoint: EndpointConfig) -> ssl.SSLContext | None:
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
