"""The addresses of the viewer's server, each a few lines: work that takes long is done in threads."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import orjson
from aiohttp import web
from aiohttp.typedefs import Handler

from pipeline.errors import InputError, VisionBatchError
from pipeline.pages.rendering import SERVED, policy, render
from pipeline.store.origins import read_origins
from pipeline.viewer.again import write_list
from pipeline.viewer.gallery import ROWS_A_PAGE, Gallery
from pipeline.viewer.guard import Guard
from pipeline.viewer.parts import place
from pipeline.viewer.pictures import SIDES, Pictures
from pipeline.viewer.shown import reviewed

HERE: Final = Path(__file__).parent
_DECODERS: Final = 2
_MOST_BYTES: Final = 1 << 20
"""Of what a page sends: a corrected caption."""
_PICTURE_CACHE: Final = "private, max-age=86400"

Asked = list[tuple[str, str]]


class Site:
    """The pages of one output directory."""

    def __init__(self, gallery: Gallery, guard: Guard) -> None:
        self._gallery, self._guard = gallery, guard
        self._pictures = Pictures(gallery.out)
        self._decoders = ThreadPoolExecutor(_DECODERS, "picture")

    def app(self) -> web.Application:
        made = web.Application(middlewares=[self._guard.middleware(), _said], client_max_size=_MOST_BYTES)
        at = f"/{self._guard.token}"
        made.add_routes(
            [
                web.get("/open/{once}", self._guard.open_once),
                web.get(f"{at}/", self._page),
                web.get(f"{at}/rows", self._rows),
                web.get(f"{at}/row", self._row),
                web.get(f"{at}/facets", self._facets),
                web.get(f"{at}/state", self._state),
                web.get(f"{at}/picture", self._picture),
                web.post(f"{at}/reviews", self._review),
                web.post(f"{at}/again", self._again),
            ]
        )
        return made

    def close(self) -> None:
        self._decoders.shutdown(wait=False, cancel_futures=True)

    async def _page(self, _: web.Request) -> web.Response:
        return page(
            "view.html.j2",
            {"out": self._gallery.out.resolve().name, "path": str(self._gallery.out), "compares": False},
            "view.js",
        )

    async def _rows(self, request: web.Request) -> web.Response:
        asked = _asked(request)
        number = _whole(request.query.get("page", "0"))
        found = await asyncio.to_thread(self._gallery.page, asked, request.query.get("results"), number)
        return json(
            {
                "results": found.results,
                "rows": found.rows,
                "found": found.found.found,
                "looked": found.found.looked,
                "is_complete": found.found.is_complete,
                "total": found.total,
                "page": number,
                "rows_a_page": ROWS_A_PAGE,
            }
        )

    async def _row(self, request: web.Request) -> web.Response:
        return json(await asyncio.to_thread(self._gallery.row, *_named(request.query)))

    async def _facets(self, _: web.Request) -> web.Response:
        return json(await asyncio.to_thread(self._gallery.facets))

    async def _state(self, _: web.Request) -> web.Response:
        snapshot = await asyncio.to_thread(self._gallery.snapshot)
        return json({"total": snapshot.rows, "name": snapshot.name})

    async def _picture(self, request: web.Request) -> web.Response:
        size = request.query.get("size", "small")
        key, at = _named(request.query)

        def made() -> bytes | str:
            row = self._gallery.find(key, at)[1]
            for known in SIDES:
                if known == size:
                    return self._pictures.picture(row, known)
            raise InputError(f"size: {size!r} is none of {', '.join(SIDES)}")

        found = await asyncio.get_running_loop().run_in_executor(self._decoders, made)
        if isinstance(found, str):
            return web.Response(text=found, status=404)
        return web.Response(body=found, content_type="image/jpeg", headers={"Cache-Control": _PICTURE_CACHE})

    async def _review(self, request: web.Request) -> web.Response:
        sent = await _sent(request)
        key, at = _named(sent)
        mark, caption, answered_at = sent.get("mark"), sent.get("caption"), sent.get("answered_at")
        if mark not in {None, "good", "bad"} or not isinstance(caption, str | None):
            raise InputError("a review has a mark (good, bad or null) and a caption (text or null)")
        return json(reviewed(await asyncio.to_thread(self._gallery.review, key, at, answered_at, mark, caption)))

    async def _again(self, request: web.Request) -> web.Response:
        sent = await _sent(request)
        asked = [(str(name), str(value)) for name, value in sent.get("asked", [])]
        found = await asyncio.to_thread(self._written, asked, sent.get("results"))
        return json(found)

    def _written(self, asked: Asked, results: str | None) -> dict[str, object]:
        out = self._gallery.out
        sources = [origin.source for origin, _ in read_origins(out)]
        prompts = self._gallery.prompts()
        now = datetime.now(UTC)
        made = write_list(out, self._gallery.keys(asked, results), sources=sources, prompts=prompts, now=now)
        return {"path": str(made.path), "ids": made.ids, "left_out": made.left_out, "command": made.command}


def page(template: str, values: dict[str, object], script: str) -> web.Response:
    """A whole page with one script, which the files of this room make up."""
    text = "\n".join((HERE / name).read_text(encoding="utf-8") for name in ("common.js", script))
    html = render(template, values, title=f"{values['out']} · vision-batch", script=text, allowed=SERVED, folder=HERE)
    allowed = f"{policy(text, SERVED)}; frame-ancestors 'none'"
    return web.Response(text=html, content_type="text/html", headers={"Content-Security-Policy": allowed})


def json(value: object) -> web.Response:
    return web.Response(body=orjson.dumps(value), content_type="application/json")


@web.middleware
async def _said(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Errors that have words become an answer with them."""
    try:
        return await handler(request)
    except VisionBatchError as error:
        status = 400 if isinstance(error, InputError) else 500
        return web.json_response({"error": str(error)}, status=status)


def _asked(request: web.Request) -> Asked:
    return list(request.query.items())


async def _sent(request: web.Request) -> dict[str, Any]:
    try:
        found = orjson.loads(await request.read())
    except orjson.JSONDecodeError:
        found = None
    if not isinstance(found, dict):
        raise InputError("a JSON object is expected")
    return found


def _named(values: Any) -> tuple[tuple[str, str], int]:  # noqa: ANN401 - of an address or of JSON
    """The key of a row, and where it was seen."""
    record, prompt, at = (values.get(name) for name in ("id", "prompt", "at"))
    if not (isinstance(record, str) and isinstance(prompt, str) and isinstance(at, str)):
        raise InputError("a row is named by id, prompt and at")
    part, _, row = at.partition(".")
    return (record, prompt), place(_whole(part), _whole(row))


def _whole(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 10):  # noqa: PLR2004 - no row has a larger number
        raise InputError(f"{text!r} is no whole number")
    return int(text)
