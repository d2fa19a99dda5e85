"""Which addresses anybody can fetch from: not those of this machine, of its network, or of a cloud's own services."""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit

IsPublic = Callable[[str], Awaitable[bool]]
"""Whether a host is; its name, or its IP address."""

_LOCAL: Final = (".localhost", ".local", ".internal", ".lan", ".home", ".corp", ".intranet", ".home.arpa", ".test")
_WEB: Final = frozenset({"http", "https"})


def host_to_pass(url: str) -> str | None:
    """The host of an address that may be passed on; None where it holds a login, or is no address of the web."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return None
    return host if host and parts.scheme.lower() in _WEB and "@" not in parts.netloc else None


async def is_public_host(host: str) -> bool:
    """Whether all of its IP addresses are public. A name that this machine cannot resolve counts by its ending."""
    literal = _of_ip(host)
    if literal is not None:
        return literal
    name = host.rstrip(".").lower()
    if "." not in name or name.endswith(_LOCAL):
        return False
    try:
        found = await asyncio.get_running_loop().getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return True  # behind a proxy nothing may resolve here
    return all(_of_ip(str(address[0])) is True for *_, address in found)


def _of_ip(text: str) -> bool | None:
    """None where it is no IP address. Also the short forms of IPv4, such as `127.1` and `2130706433`."""
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        try:
            address = ip_address(socket.inet_aton(text))
        except (OSError, ValueError):
            return None
    mapped = getattr(address, "ipv4_mapped", None)
    address = address if mapped is None else mapped
    return address.is_global and not address.is_multicast
