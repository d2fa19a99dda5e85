"""Addresses that may be stored and shown: without login, and without the parameters that open or sign them.

An address without such parameters is returned as it was written, for it is the id of its image. Two that differ
only in them have one id: signatures and keys change from night to night.
"""

import re
from collections.abc import Iterator
from typing import Final
from urllib.parse import quote, unquote

# Query parameters that sign an address or open it. Sources: "Authenticating Requests: Using Query Parameters"
# (Amazon S3, signature versions 2 and 4), "Signed URLs" (Google Cloud Storage), "Create a service SAS" and
# "Create a user delegation SAS" (Azure Storage), "Use signed URLs" (Amazon CloudFront), "Request signature"
# (Tencent COS), "Add signatures to URLs" (Alibaba OSS), "Token authentication" (Akamai).
_SIGNING: Final = re.compile(
    r"x-(amz|goog|oss|cos)-.*|signature|expires|policy|key-pair-id|(aws|oss)accesskeyid|googleaccessid"
    r"|(security-|access_)?token|api_?key|sig|sk(oid|tid|t|e|s|v)|saoid|suoid|scid"
    r"|q-(sign-algorithm|ak|sign-time|key-time|header-list|url-param-list|signature)|hdnea|hdnts|__gda__|__token__"
)
# Of a shared access signature too, but too short to be dropped from an address that has no `sig`.
_SAS: Final = re.compile(r"se|sp|sv|sr|st|spr|ss|srt|sip|si|sdd|rsc[cdelt]")
# `code` is the key of an Azure function. Names of keys that name a thing (`object_key`, `sort_key`) are not here.
_SECRET: Final = re.compile(
    r"(.*[^a-z0-9])?(auth|authori[sz]ation|authentication|bearer|cookie|creds?|hmac|jwt|pass(code|phrase)?|pw|pwd|sign)"
    r"|.*(token|secret|passw(or)?d|signature|credentials?|session[-_]?id|sessid)"
    r"|key|code|(.*[^a-z0-9])?(access|account|api|app|auth|client|function|functions|host|master|license|private|secret"
    r"|session|shared|signing|storage|subscription|user|x)[-_.]?(key|code)([-_.]?id)?"
)
_NAMES_OF_FILES: Final = frozenset({"key", "code"})
"""Parameters that name a secret in one service and an object in another: an image's file name is no secret."""
_FILE: Final = re.compile(
    r".*\.(jpe?g|jpe|jfif|mpo|jp2|png|gif|webp|bmp|tiff?|avif|hei[cf])", re.IGNORECASE | re.DOTALL
)

_LOGIN: Final = re.compile(r"((?:^|:)//)[^/?#]*@")
_BROKEN_LOGIN: Final = re.compile(r"(://)[^/?#@:\[]*:(?!\d*(?:[/?#]|$)).*@", re.DOTALL)
"""A password that holds a slash, so that what stands before it looks like a host with an impossible port."""
_BARE_LOGIN: Final = re.compile(r"^[^/?#@\s]+:[^/?#@\s]*@")
_MATRIX: Final = re.compile(r";([^;=/?#]+)=[^;/?#]*")
_ADDRESS: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s\"\\<>]+")
_NESTED: Final = 4
"""Addresses within parameters of addresses are looked at so deep; what is deeper is left out."""


def public_url(url: str, depth: int = 0) -> str:
    """An address without user, password and those parameters, of query and fragment, that could be a secret."""
    if "@" in url:
        url = _BROKEN_LOGIN.sub(r"\1", _LOGIN.sub(r"\1", url))
        url = url if "://" in url else _BARE_LOGIN.sub("", url)
    head, mark, fragment = url.partition("#")
    address, mark_of_query, query = head.partition("?")
    if ";" in address:
        address = _MATRIX.sub(lambda found: "" if _is_secret(found[1], "") else found[0], address)
    if not (mark_of_query or mark):
        return address
    query, fragment = _public_pairs(query, depth), _public_pairs(fragment, depth)
    # An empty query or fragment stays as it was written.
    kept_query = mark_of_query if query or head.endswith("?") else ""
    return address + kept_query + query + (mark if fragment or url.endswith("#") else "") + fragment


def public_text(text: str) -> str:
    """The same for every address in a text: a message, or JSON."""
    return _ADDRESS.sub(lambda found: public_url(found[0]), text) if "://" in text else text


def secrets_in(url: str) -> Iterator[str]:
    """What `public_url` leaves out: user and password, together and apart, and values of parameters, quoted or not."""
    login = re.match(r"(?:[^/?#]*//)?([^/?#]*)@", url)
    if login:
        user, colon, password = login[1].partition(":")
        yield from _both(login[1])
        yield from _both(password if colon else user)
        yield from _both(user)
    for pair in re.split(r"[?#&;]", url)[1:]:
        name, equals, value = pair.partition("=")
        if equals and _is_secret(name, value):
            yield from _both(value)


def _both(value: str) -> Iterator[str]:
    yield value
    yield unquote(value)


def _public_pairs(query: str, depth: int) -> str:
    """`a=1&b=2` without its secrets. A fragment may have a path of its own before a `?`."""
    if "=" not in query:
        return query
    path, mark_of_query, rest = query.partition("?")
    if mark_of_query and "=" not in path:
        kept = _public_pairs(rest, depth)
        return path + (mark_of_query + kept if kept else "")
    pairs = query.split("&")
    has_signature = any(pair[:4].lower() == "sig=" for pair in pairs)
    kept_pairs = (_public_pair(pair, depth, has_signature=has_signature) for pair in pairs)
    return "&".join(pair for pair in kept_pairs if pair is not None)


def _public_pair(pair: str, depth: int, *, has_signature: bool) -> str | None:
    """None where nothing of it is kept. What follows a `;` may be another pair, or part of the value."""
    parts = pair.split(";")
    for at, part in enumerate(parts):
        name, equals, value = part.partition("=")
        if equals and (_is_secret(name, value) or (has_signature and _SAS.fullmatch(name.lower()))):
            return ";".join(parts[:at]) if at else None
    name, equals, value = pair.partition("=")
    plain = unquote(value)
    if "://" not in plain and "?" not in plain:
        return pair
    if depth == _NESTED:
        return name
    public = public_url(plain, depth + 1)
    return pair if public == plain else f"{name}={quote(public, safe='')}"


def _is_secret(name: str, value: str) -> bool:
    """Whether a parameter of this name, which may be quoted or an array's (`auth[key]`), opens or signs an address."""
    for one in re.split(r"[\[\]]+", unquote(name).strip().lower()):
        if _SIGNING.fullmatch(one) or _SECRET.fullmatch(one):
            return one not in _NAMES_OF_FILES or _FILE.fullmatch(unquote(value)) is None
    return False
