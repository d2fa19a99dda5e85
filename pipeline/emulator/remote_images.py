"""Images that a request names by address, fetched as a provider fetches them, where the emulator is asked to."""

from http import HTTPStatus
from typing import Any, Final
from urllib.error import URLError
from urllib.request import Request, urlopen

import pybase64

from pipeline.emulator.api_errors import ApiError

TIMEOUT_S: Final = 10.0
MOST_BYTES: Final = 20 << 20
_MOST_DEPTH: Final = 12


def with_remote_images(payload: Any, depth: int = 0) -> Any:  # noqa: ANN401 - JSON
    """A copy of a body with the bytes of its images in place of their addresses. Raises ApiError. Blocks."""
    if depth > _MOST_DEPTH:
        return payload
    if isinstance(payload, list):
        return [with_remote_images(item, depth + 1) for item in payload]
    if not isinstance(payload, dict):
        return payload
    return {name: _inlined(name, value, depth) for name, value in payload.items()}


def _inlined(name: str, value: Any, depth: int) -> Any:  # noqa: ANN401 - JSON
    if name == "image_url" and isinstance(value, dict):
        return {**value, "url": _inlined(name, value.get("url"), depth)}
    if name == "image_url" and isinstance(value, str) and value[:8].lower().startswith(("http://", "https://")):
        return _data_url(value)
    return with_remote_images(value, depth + 1)


def _data_url(url: str) -> str:
    try:
        with urlopen(Request(url), timeout=TIMEOUT_S) as response:  # noqa: S310 - http and https, see above
            data = response.read(MOST_BYTES + 1)
            kind = response.headers.get_content_type()
    except (URLError, OSError, ValueError) as error:
        raise _not_downloaded(url, str(getattr(error, "reason", error))) from None
    if len(data) > MOST_BYTES:
        raise _not_downloaded(url, f"more than {MOST_BYTES:,} bytes")
    return f"data:{kind};base64,{pybase64.b64encode(data).decode()}"


def _not_downloaded(url: str, why: str) -> ApiError:
    return ApiError(
        HTTPStatus.BAD_REQUEST, f"Failed to download image from {url[:200]}: {why[:100]}.", code="invalid_image_url"
    )
