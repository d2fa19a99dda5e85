"""Where requests go and with which headers, checked before anything is sent."""

from dataclasses import dataclass
from urllib.parse import urlencode, urlsplit, urlunsplit

from pipeline.config.base_urls import below
from pipeline.config.sections import EndpointConfig
from pipeline.endpoints.secrets import secrets_of
from pipeline.errors import InputError
from pipeline.redaction.redactor import MASK, Redactor, header_secrets, shown_variable


@dataclass(frozen=True, slots=True)
class Target:
    """One endpoint: its settings, the headers of a request with the key in them, and what masks secrets."""

    endpoint: EndpointConfig
    headers: dict[str, str]
    redactor: Redactor

    @classmethod
    def of(cls, endpoint: EndpointConfig, key: str | None, redactor: Redactor | None = None) -> "Target":
        """`redactor` masks the secrets of all endpoints; None: of this one.

        Raises InputError where key, headers or address cannot be sent.
        """
        parts = urlsplit(endpoint.base_url)
        if parts.username or parts.password:
            raise InputError("the base URL holds a login: take it out, and give the key in the environment variable")
        return cls(endpoint, _headers(endpoint, key), redactor or Redactor(secrets_of(endpoint, key)))

    def url(self, path: str) -> str:
        """The address of a path below the base URL, with the endpoint's query parameters."""
        parts = urlsplit(self.endpoint.base_url)
        query = "&".join(filter(None, (parts.query, urlencode(self.endpoint.query))))
        return urlunsplit(parts._replace(path=below(parts.path, path), query=query))


def shown_headers(endpoint: EndpointConfig, *, has_key: bool) -> dict[str, str]:
    """The headers of a request for people to read: the variable in place of the key, and no value of a secret."""
    secret = set(header_secrets(endpoint.headers))
    shown = {name: MASK if value in secret else value for name, value in endpoint.headers.items()}
    if not has_key or endpoint.api_key_header.lower() in {name.lower() for name in shown}:
        return shown
    key = f"<{shown_variable(endpoint.api_key_env)}>"
    bearer = endpoint.api_key_header.lower() == "authorization"
    return {**shown, endpoint.api_key_header: f"Bearer {key}" if bearer else key}


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
