"""Who may ask this server: a browser of this machine that was given the address, and no other page in it.

Every address below the root begins with a secret token. A request with the name of another host is of a page that lets
its own name lead here (DNS rebinding). What changes anything comes from our own page only. No answer is for other
origins, and none is anything but the page, JSON or a picture that was made here.
"""

import secrets
from typing import Final
from urllib.parse import urlsplit

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler, Middleware

_HOSTS: Final = frozenset({"127.0.0.1", "localhost", "::1"})
_HEADERS: Final = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
    "Server": "vision-batch",
}
"""Of every answer; the page and pictures have some of their own."""
_NOT_HERE: Final = "This needs the address that `vision-batch view` has printed.\n"


class Guard:
    """The secrets of one server."""

    def __init__(self) -> None:
        self.token = secrets.token_urlsafe(32)
        self._once = secrets.token_urlsafe(32)

    @property
    def path(self) -> str:
        """Where the pages are."""
        return f"/{self.token}/"

    @property
    def path_once(self) -> str:
        """Leads there once: other users of this machine can read the arguments of the browser's process."""
        return f"/open/{self._once}"

    async def open_once(self, request: web.Request) -> web.StreamResponse:
        """Answers `path_once`."""
        if not secrets.compare_digest(request.path.encode(), self.path_once.encode()):
            raise web.HTTPForbidden(text=_NOT_HERE)
        self._once = secrets.token_urlsafe(32)
        raise web.HTTPFound(self.path)

    def middleware(self) -> Middleware:
        """Refuses what may not ask, and adds the headers that every answer has."""

        @web.middleware
        async def guarded(request: web.Request, handler: Handler) -> web.StreamResponse:
            try:
                self._check(request)
                response = await handler(request)
            except web.HTTPException as refused:
                refused.headers.update({name: refused.headers.get(name, text) for name, text in _HEADERS.items()})
                raise
            for name, text in _HEADERS.items():
                response.headers.setdefault(name, text)
            return response

        return guarded

    def _check(self, request: web.Request) -> None:
        host = request.headers.get(hdrs.HOST, "")
        if _name_of(host) not in _HOSTS:
            raise web.HTTPForbidden(text="This server answers to the names of this machine only.\n")
        first, _, rest = request.raw_path.removeprefix("/").partition("/")
        is_ours = secrets.compare_digest(first.encode("utf-8", "replace"), self.token.encode())
        if not is_ours and not (first == "open" and rest):
            raise web.HTTPForbidden(text=_NOT_HERE)
        if request.method not in {"GET", "HEAD"}:
            origin = request.headers.get(hdrs.ORIGIN, "")
            if origin != f"http://{host}" or request.content_type != "application/json":
                raise web.HTTPForbidden(text="Only the pages of this server may change anything.\n")


def _name_of(host: str) -> str | None:
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:
        return None
