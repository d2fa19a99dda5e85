"""Which addresses anybody can fetch from: not those of this machine, of its network, or of a cloud's own services."""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final
from urllib.parse import urlsplit

IsPublic = Callable[[str], Awaitable[bool]]
"""Whether a host is; its name, or its IP address."""

_LOCAL: Final = (".localhost", ".local", ".internal", ".lan", ".home", ".corp", ".intranet", ".home.arpa", ".test")
_WEB: Final = frozenset({"http", "https"})
_GLOBAL_UNICAST: Final = IPv6Network("2000::/3")
"""All that is assigned of IPv6, but for NAT64."""
_NAT64: Final = IPv6Network("64:ff9b::/96")
_NOT_PUBLIC: Final = (
    IPv4Network("192.0.0.0/24"),  # some of it counts as global in some versions of Python
    IPv4Network("168.63.129.16/32"),  # Azure's services for its machines: public by number alone
    IPv6Network("3fff::/20"),  # documentation (RFC 9637), later than some versions of Python
)


def host_to_pass(url: str) -> str | None:
    """The host of an address that may be passed on; None where it holds a login, or is no address of the web."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return None
    return host if host and parts.scheme.lower() in _WEB and "@" not in parts.netloc else None


def is_private_by_name(host: str) -> bool:
    """Whether a host is private by what is written: an IP address in any spelling, or a name of a local network."""
    literal = is_public_address(host)
    if literal is not None:
        return not literal
    name = host.rstrip(".").lower()
    return "." not in name or name.endswith(_LOCAL)


async def is_public_host(host: str) -> bool:
    """Whether all of its IP addresses are public. A name that this machine cannot resolve counts by its ending."""
    literal = is_public_address(host)
    if literal is not None:
        return literal
    if is_private_by_name(host):
        return False
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return True  # behind a proxy nothing may resolve here
    return all(is_public_address(str(address[0])) is True for *_, address in found)


def is_public_address(text: str) -> bool | None:
    """None where it is no IP address. Also the short forms of IPv4, such as `127.1` and `2130706433`.

    An IPv6 address that leads to one of IPv4 (mapped, NAT64, 6to4) counts as that one.
    """
    text = text.rstrip(".")
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        try:
            address = ip_address(socket.inet_aton(text))
        except (OSError, ValueError):
            return None
    if isinstance(address, IPv6Address):
        inner = _inner(address)
        if inner is None and address not in _GLOBAL_UNICAST:
            return False
        address = address if inner is None else inner
    return address.is_global and not address.is_multicast and not any(address in network for network in _NOT_PUBLIC)


def _inner(address: IPv6Address) -> IPv4Address | None:
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFF_FFFF)
    return address.ipv4_mapped or address.sixtofour
