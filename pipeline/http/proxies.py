"""Which proxy a request goes through: the configured one, or the environment's."""

from functools import lru_cache
from typing import Final
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from pipeline.config.base_urls import checked_address, is_loopback
from pipeline.config.sections import EndpointConfig
from pipeline.errors import InputError

PROXIES: Final = 1024
"""Hosts whose proxy is remembered."""


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
