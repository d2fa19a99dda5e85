"""The addresses of a comparison."""

import asyncio
from typing import Final, cast

from aiohttp import web

from pipeline.errors import InputError
from pipeline.viewer.answers import json, page, sent, whole_number
from pipeline.viewer.comparison import Comparison, Side

_SIDES: Final = frozenset({"a", "b", "tie", None})


class ComparePages:
    """Two output directories, blind."""

    def __init__(self, comparison: Comparison) -> None:
        self._comparison = comparison

    def routes(self, at: str) -> list[web.RouteDef]:
        return [
            web.get(f"{at}/", self._page),
            web.get(f"{at}/pair", self._pair),
            web.get(f"{at}/result", self._result),
            web.post(f"{at}/votes", self._vote),
        ]

    async def _page(self, _: web.Request) -> web.Response:
        return page("compare.html.j2", {"path": str(self._comparison.one.out)}, "compare.js", title="Comparison")

    async def _pair(self, request: web.Request) -> web.Response:
        number = request.query.get("number")
        step = -1 if request.query.get("step") == "-1" else 1
        wanted = None if number is None else int(number) if number == "-1" else whole_number(number)
        return json(await asyncio.to_thread(self._comparison.show, wanted, step))

    async def _vote(self, request: web.Request) -> web.Response:
        values = await sent(request)
        number, record, side = values.get("number"), values.get("id"), values.get("side")
        if not isinstance(number, int) or not isinstance(record, str) or side not in _SIDES:
            raise InputError("a vote has a number, an id and a side (a, b, tie or null)")
        await asyncio.to_thread(self._comparison.vote, number, record, cast("Side | None", side))
        return json({})

    async def _result(self, _: web.Request) -> web.Response:
        return json(await asyncio.to_thread(self._comparison.result))
