"""Pictures and request bodies that the emulator's tests share."""

import base64
from collections.abc import Callable
from io import BytesIO
from typing import Any

import pytest
from PIL import Image

Picture = Callable[..., bytes]
Body = Callable[..., dict[str, Any]]


def _picture(width: int = 64, height: int = 48, colour: str = "blue", file_format: str = "JPEG") -> bytes:
    buffer = BytesIO()
    Image.new("RGB", (width, height), colour).save(buffer, file_format)
    return buffer.getvalue()


def _body(*images: bytes, **options: Any) -> dict[str, Any]:
    parts: list[dict[str, Any]] = [{"type": "text", "text": "Describe this image."}]
    detail = {"detail": options.pop("detail")} if "detail" in options else {}
    for image in images:
        url = "data:image/jpeg;base64," + base64.b64encode(image).decode()
        parts.append({"type": "image_url", "image_url": {"url": url, **detail}})
    return {"model": "gpt-4o", "messages": [{"role": "user", "content": parts}], **options}


@pytest.fixture
def picture() -> Picture:
    """`picture(width, height, colour, file_format)` -> the file's bytes."""
    return _picture


@pytest.fixture
def chat_body() -> Body:
    """`chat_body(*images, detail=..., **options)` -> a body of chat/completions."""
    return _body
