"""The secrets of a run: what no answer, no error and no file of OUT may repeat."""

from collections.abc import Iterator, Sequence
from urllib.parse import urlencode
from urllib.request import getproxies

from pipeline.config.run_config import RunConfig
from pipeline.config.sections import EndpointConfig
from pipeline.redaction.addresses import secrets_in
from pipeline.redaction.redactor import Redactor, header_secrets, is_variable_name


def redactor_of(config: RunConfig, keys: Sequence[str | None]) -> Redactor:
    """Masks the secrets of all endpoints, since one may repeat what another was sent. Made once a run."""
    endpoints = config.all_endpoints
    return Redactor(secret for one, key in zip(endpoints, keys, strict=True) for secret in secrets_of(one, key))


def secrets_of(endpoint: EndpointConfig, key: str | None) -> Iterator[str | None]:
    """Of one endpoint: its key, headers, address and proxy, and the login of any proxy of the environment."""
    yield key
    if not is_variable_name(endpoint.api_key_env):
        yield endpoint.api_key_env
    yield from header_secrets(endpoint.headers)
    query = f"https://host/?{urlencode(endpoint.query)}" if endpoint.query else ""
    for address in (endpoint.base_url, query, endpoint.proxy or "", *getproxies().values()):
        yield from secrets_in(address)
