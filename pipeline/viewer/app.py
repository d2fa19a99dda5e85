"""The addresses of the viewer's server, each a few lines: work that takes long is done in threads."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Final

from aiohttp import web

from pipeline.errors import InputError
from pipeline.viewer.again import write_list
from pipeline.viewer.answers import in_words, json, named_row, page, sent, whole_number
from pipeline.viewer.compare_app import ComparePages
from pipeline.viewer.comparison import Comparison
from pipeline.viewer.gallery import ROWS_A_PAGE, Gallery
from pipeline.viewer.guard import Guard
from pipeline.viewer.pictures import SIDES, Pictures
from pipeline.viewer.shown import reviewed

_DECODERS: Final = 2
_MOST_BYTES: Final = 1 << 20
"""Of what a page sends: a corrected caption."""
_PICTURE_CACHE: Final = "private, max-age=86400"

Asked = list[tuple[str, str]]


class Site:
    """The pages of one output directory, or of its comparison with another."""

    def __init__(self, gallery: Gallery, guard: Guard, comparison: Comparison | None = None) -> None:
        self._gallery, self._guard, self._comparison = gallery, guard, comparison
        self._pictures = Pictures(gallery.out)
        self._decoders = ThreadPoolExecutor(_DECODERS, "picture")

    def app(self) -> web.Application:
        made = web.Application(middlewares=[self._guard.middleware(), in_words], client_max_size=_MOST_BYTES)
        at = f"/{self._guard.token}"
        made.add_routes([web.get("/open/{once}", self._guard.open_once), web.get(f"{at}/picture", self._picture)])
        made.add_routes(self._routes(at) if self._comparison is None else ComparePages(self._comparison).routes(at))
        return made

    def _routes(self, at: str) -> list[web.RouteDef]:
        return [
            web.get(f"{at}/", self._page),
            web.get(f"{at}/rows", self._rows),
            web.get(f"{at}/row", self._row),
            web.get(f"{at}/facets", self._facets),
            web.get(f"{at}/state", self._state),
            web.post(f"{at}/reviews", self._review),
            web.post(f"{at}/again", self._again),
        ]

    def close(self) -> None:
        self._decoders.shutdown(wait=False, cancel_futures=True)

    async def _page(self, _: web.Request) -> web.Response:
        name = self._gallery.out.resolve().name
        return page("view.html.j2", {"out": name, "path": str(self._gallery.out)}, "view.js", title=name)

    async def _rows(self, request: web.Request) -> web.Response:
        asked = list(request.query.items())
        number = whole_number(request.query.get("page", "0"))
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
        return json(await asyncio.to_thread(self._gallery.row, *named_row(request.query)))

    async def _facets(self, _: web.Request) -> web.Response:
        return json(await asyncio.to_thread(self._gallery.facets))

    async def _state(self, _: web.Request) -> web.Response:
        snapshot = await asyncio.to_thread(self._gallery.snapshot)
        return json({"total": snapshot.rows, "name": snapshot.name})

    async def _picture(self, request: web.Request) -> web.Response:
        size = request.query.get("size", "small")
        key, at = named_row(request.query)

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
        values = await sent(request)
        key, at = named_row(values)
        mark, caption, answered_at = values.get("mark"), values.get("caption"), values.get("answered_at")
        if mark not in {None, "good", "bad"} or not isinstance(caption, str | None):
            raise InputError("a review has a mark (good, bad or null) and a caption (text or null)")
        return json(reviewed(await asyncio.to_thread(self._gallery.review, key, at, answered_at, mark, caption)))

    async def _again(self, request: web.Request) -> web.Response:
        values = await sent(request)
        asked = [(str(name), str(value)) for name, value in values.get("asked", [])]
        found = await asyncio.to_thread(self._written, asked, values.get("results"))
        return json(found)

    def _written(self, asked: Asked, results: str | None) -> dict[str, object]:
        out = self._gallery.out
        prompts = self._gallery.prompts()
        now = datetime.now(UTC)
        made = write_list(
            out,
            self._gallery.keys(asked, results),
            prompts=prompts,
            is_rehearsal=self._gallery.is_rehearsal(),
            now=now,
        )
        return {"path": str(made.path), "ids": made.ids, "left_out": made.left_out, "command": made.command}
