"""What requests bring, and what they get: pages, JSON, and errors in words."""

from pathlib import Path
from typing import Any, Final

import orjson
from aiohttp import web
from aiohttp.typedefs import Handler

from pipeline.errors import InputError, VisionBatchError
from pipeline.pages.rendering import SERVED, policy, render
from pipeline.viewer.parts import place

HERE: Final = Path(__file__).parent
_MOST_DIGITS: Final = 9


def page(template: str, values: dict[str, object], script: str, *, title: str) -> web.Response:
    """A whole page with one script, which the files of this room make up."""
    text = "\n".join((HERE / name).read_text(encoding="utf-8") for name in ("common.js", script))
    html = render(template, values, title=f"{title} · vision-batch", script=text, allowed=SERVED, folder=HERE)
    allowed = f"{policy(text, SERVED)}; frame-ancestors 'none'"
    return web.Response(text=html, content_type="text/html", headers={"Content-Security-Policy": allowed})


def json(value: object) -> web.Response:
    return web.Response(body=orjson.dumps(value), content_type="application/json")


@web.middleware
async def in_words(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Errors that have words become an answer with them."""
    try:
        return await handler(request)
    except VisionBatchError as error:
        status = 400 if isinstance(error, InputError) else 500
        return web.json_response({"error": str(error)}, status=status)


async def sent(request: web.Request) -> dict[str, Any]:
    """The JSON object of a request. Raises InputError."""
    try:
        found = orjson.loads(await request.read())
    except orjson.JSONDecodeError:
        found = None
    if not isinstance(found, dict):
        raise InputError("a JSON object is expected")
    return found


def named_row(values: Any) -> tuple[tuple[str, str], int]:  # noqa: ANN401 - of an address or of JSON
    """The key of a row, and where it was seen. Raises InputError."""
    record, prompt, at = (values.get(name) for name in ("id", "prompt", "at"))
    if not (isinstance(record, str) and isinstance(prompt, str) and isinstance(at, str)):
        raise InputError("a row is named by id, prompt and at")
    part, _, row = at.partition(".")
    return (record, prompt), place(whole_number(part), whole_number(row))


def whole_number(text: str) -> int:
    """Raises InputError; no row has a number of more digits."""
    if not (text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS):
        raise InputError(f"{text!r} is no whole number")
    return int(text)
