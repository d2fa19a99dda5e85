"""Checks http(s) addresses before anything is sent, so that no library fails on one later."""

import ipaddress
import re
from typing import Final
from urllib.parse import SplitResult, urlsplit, urlunsplit

from yarl import URL

_HOST: Final = re.compile(r"[\w-]+(\.[\w-]+)*\.?")
_NUMBER: Final = re.compile(r"[0-9]+|0[xX][0-9a-fA-F]*")
_PATHS: Final = ("/chat/completions", "/ocr", "/vision")
"""Of requests, which stand at the end of the addresses in the documents of endpoints."""
_BLANKS: Final = re.compile(r"[\s\x00-\x1f\x7f-\x9f]")


def checked_address(url: str) -> SplitResult:
    """The parts of an http(s) address. Raises ValueError that says which part is wrong."""
    if _BLANKS.search(url):
        raise ValueError("an address holds no blanks and no control characters")
    if not _is_text(url):
        raise ValueError("the address is not valid Unicode text")
    try:
        parts = urlsplit(url)
    except ValueError:
        raise ValueError("the host in square brackets is no IPv6 address") from None
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError("not an http(s) address")
    _check_port(parts)
    _check_host(parts.hostname)
    try:
        URL(url)  # the session's own parser, which is stricter in places
    except ValueError:
        raise ValueError("not an http(s) address") from None
    return parts


def normalise_base_url(url: str) -> str:
    """The address up to and without the path of requests; a bare host gets `/v1`, where all of them listen."""
    url = url.strip()
    if "://" not in url:
        url = f"http://{url}" if is_loopback(f"//{url}") else f"https://{url}"
    parts = checked_address(url)
    if "@" in parts.netloc:
        raise ValueError("an address does not hold a key: put it into the environment variable of api_key_env")
    path = parts.path.rstrip("/")
    for ending in _PATHS:
        path = path.removesuffix(ending)
    return urlunsplit((parts.scheme, parts.netloc, path or "/v1", parts.query, ""))


def below(base_path: str, path: str) -> str:
    """The path of an adapter below that of a base URL; one with a leading slash stands beside `/v1`."""
    base = base_path.rstrip("/")
    return f"{base.removesuffix('/v1')}{path}" if path.startswith("/") else f"{base}/{path}"


def is_loopback(base_url: str) -> bool:
    """Whether an address names this machine, and nothing else: `127.evil.example` does not."""
    try:
        host = (urlsplit(base_url).hostname or "").removesuffix(".")
    except ValueError:
        return False
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def origin(base_url: str) -> str:
    """`https://host:port` of an address: where its requests go."""
    parts = urlsplit(base_url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


def _is_text(url: str) -> bool:
    try:
        url.encode()
    except UnicodeEncodeError:
        return False
    return True


def _check_port(parts: SplitResult) -> None:
    try:
        port = parts.port
    except ValueError:
        port = 0
    if port == 0:
        raise ValueError("the port is not a number from 1 to 65535")


def _check_host(host: str) -> None:
    if ":" in host:
        _check_ip(ipaddress.IPv6Address, host.partition("%")[0])
        return
    if _HOST.fullmatch(host) is None:
        raise ValueError(f"{host!r} is not the name of a host")
    if _NUMBER.fullmatch(host.removesuffix(".").rpartition(".")[2]):
        _check_ip(ipaddress.IPv4Address, host)
    try:
        host.encode("idna")
    except UnicodeError:
        raise ValueError(f"{host!r} is not the name of a host") from None


def _check_ip(kind: type[ipaddress.IPv4Address | ipaddress.IPv6Address], host: str) -> None:
    try:
        kind(host)
    except ValueError:
        raise ValueError(f"{host!r} is not an IP address: write it as in 127.0.0.1 or [::1]") from None
